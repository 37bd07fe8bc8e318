// Live servers on Node: `node server.mjs KIND PORT`, KIND being graphql-ws, yoga or raw.
// POST /event with {"lines": [...]} tells every subscriber, as in live_peers.py.
import { createServer } from "node:http";
import { useServer } from "graphql-ws/use/ws";
import { createSchema, createYoga } from "graphql-yoga";
import { WebSocketServer } from "ws";

const [kind, port] = process.argv.slice(2);
const SNAPSHOT = { jobLogs: { kind: "SNAPSHOT", lines: [] } };
const queues = new Set();
const raw = new Set();

// A queue for each subscriber, as every tutorial has it.
async function* follow() {
  const waiting = [];
  let wake = () => {};
  const tell = (lines) => { waiting.push(lines); wake(); };
  queues.add(tell);
  try {
    yield SNAPSHOT;
    for (;;) {
      while (waiting.length) yield { jobLogs: { kind: "EVENTS", lines: waiting.shift() } };
      await new Promise((resolve) => { wake = resolve; });
    }
  } finally {
    queues.delete(tell);
  }
}

const schema = createSchema({
  typeDefs: `
    type Line { seq: String! message: String! }
    type Frame { kind: String! lines: [Line!]! }
    type Query { nothing: String }
    type Subscription { jobLogs(id: ID!): Frame! }`,
  resolvers: { Subscription: { jobLogs: { subscribe: follow } } },
});

const yoga = createYoga({ schema, graphqlEndpoint: "/graphql", logging: false });

const http = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => { body += part; });
  request.on("end", () => {
    const { lines } = JSON.parse(body);
    for (const tell of queues) tell(lines);
    if (raw.size) {
      const payload = { data: { jobLogs: { kind: "EVENTS", lines } } };
      const text = JSON.stringify({ id: "1", type: "next", payload });
      for (const socket of raw) socket.send(text);
    }
    response.end();
  });
});

const sockets = new WebSocketServer({ server: http, path: "/graphql", perMessageDeflate: false });
if (kind === "graphql-ws") {
  useServer({ schema }, sockets);
} else if (kind === "yoga") {
  useServer({
    execute: (args) => args.rootValue.execute(args),
    subscribe: (args) => args.rootValue.subscribe(args),
    onSubscribe: async (context, _id, params) => {
      const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
        ...context, req: context.extra.request, socket: context.extra.socket, params,
      });
      const args = {
        schema,
        operationName: params.operationName,
        document: parse(params.query),
        variableValues: params.variables,
        contextValue: await contextFactory(),
        rootValue: { execute, subscribe },
      };
      const errors = validate(args.schema, args.document);
      return errors.length ? errors : args;
    },
  }, sockets);
} else {
  sockets.on("connection", (socket) => {
    socket.on("message", (text) => {
      const { id, type } = JSON.parse(text);
      if (type === "connection_init") socket.send('{"type":"connection_ack"}');
      if (type !== "subscribe") return;
      socket.send(JSON.stringify({ id, type: "next", payload: { data: SNAPSHOT } }));
      raw.add(socket);
    });
    socket.on("close", () => raw.delete(socket));
  });
}
http.listen(Number(port), "127.0.0.1", 4096);
