// PostGraphile as its documentation serves it from node, in production, below the same row-level security as ours:
// every request is of one role and one tenant, and nobody is asked who they are.
import { createServer } from "node:http";
import { grafserv } from "postgraphile/grafserv/node";
import { makePgService } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";
import { postgraphile } from "postgraphile";

const [url, role, tenant, port, pool] = process.argv.slice(2);
const settings = { role, "app.tenant_id": tenant };
const instance = postgraphile({
  extends: [PostGraphileAmberPreset],
  // Relations without an index of just their columns, which it would leave out: the steps of a workflow.
  disablePlugins: ["PgIndexBehaviorsPlugin"],
  pgServices: [
    makePgService({ connectionString: url, schemas: ["public"], pubsub: false, poolConfig: { max: Number(pool) } }),
  ],
  grafast: { context: () => ({ pgSettings: settings }) },
  grafserv: { graphqlPath: "/graphql", graphiql: false, websockets: false, watch: false },
});
const server = createServer();
server.on("error", (error) => { console.error(error); process.exit(1); });
await instance.createServ(grafserv).addTo(server);
server.listen(Number(port), "127.0.0.1");
