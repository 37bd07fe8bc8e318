// Watch a job with the stock graphql-ws client; after a lost connection it goes on where it was.
import { readFileSync } from "node:fs";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const up = JSON.parse(readFileSync(".windlass/up.json", "utf8"));
const query = readFileSync(new URL("graphql/watch-job.graphql", import.meta.url), "utf8");
const client = createClient({
  url: up.websocket,
  webSocketImpl: WebSocket,
  connectionParams: () => ({ authorization: `Bearer ${up.token}` }),
  retryAttempts: Infinity,
  // A server that is not there yet is no reason to give up, which is what the client takes it for.
  shouldRetry: () => true,
});
// The client sends this very object again after a reconnect, so the newest cursor in it is where the stream goes on.
const variables = { id: process.argv[2], after: null };

for await (const { data, errors } of client.iterate({ query, variables })) {
  if (errors) throw new Error(JSON.stringify(errors));
  const frame = data.jobUpdated;
  variables.after = frame.cursor;
  for (const event of frame.events) {
    const what = event.step ? `${event.step.key} ${event.stepStatus}` : event.jobStatus;
    if (what) console.log(`${event.seq} ${event.__typename} ${what}`);
  }
  if (frame.kind === "END") console.log(`END ${frame.job.status}`);
}
await client.dispose();
