// Many clients of graphql-ws in one process, told on standard input: {urls, tokenFile, clients}. Each follows one stream to
// its end, over as many connections as it takes, and prints one JSON line about what it was told. Some stop reading now and
// then.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const { urls, tokenFile, clients } = JSON.parse(readFileSync(0, "utf8"));
const PAUSE_CHANCE = 0.05;
const going = new Set();

function follow({ name, query, id, after, items, fields, pauses }, number) {
  const digest = createHash("sha256");
  const told = { name, seqs: [], connections: 0, resyncs: 0, closes: {}, failure: null };
  let socket = null;
  let next = number;
  const client = createClient({
    url: () => urls[next++ % urls.length],
    webSocketImpl: WebSocket,
    connectionParams: () => ({ authorization: `Bearer ${readFileSync(tokenFile, "utf8")}` }),
    retryAttempts: Infinity,
    retryWait: () => new Promise((resolve) => setTimeout(resolve, 100 + 200 * Math.random())),
    shouldRetry: () => true,
    on: {
      opened: (opened) => { socket = opened; told.connections += 1; },
      closed: ({ code }) => { told.closes[code] = (told.closes[code] ?? 0) + 1; },
    },
  });
  const finish = (failure) => {
    going.delete(finish);
    console.log(JSON.stringify({ ...told, failure, digest: digest.digest("hex") }));
    client.dispose();
  };
  going.add(finish);
  // graphql-ws sends this very object again when it reconnects: moving `after` is all that resuming takes.
  const variables = { id, after };
  client.subscribe({ query, variables }, {
    next: ({ data, errors }) => {
      if (errors) { told.failure = JSON.stringify(errors); return; }
      const frame = Object.values(data)[0];
      variables.after = frame.cursor;
      if (frame.kind === "RESYNC") told.resyncs += 1;
      for (const item of frame[items]) {
        digest.update(fields.map((field) => item[field] ?? "-").join("\t") + "\n");
        told.seqs.push(Number(item.seq));
      }
      if (pauses && frame.kind === "EVENTS" && Math.random() < PAUSE_CHANCE) {
        const paused = socket;
        paused.pause();
        setTimeout(() => paused.resume(), 500 + 2500 * Math.random());
      }
    },
    error: (error) => finish(error.message ?? `closed for good: ${error.code ?? JSON.stringify(error)}`),
    complete: () => finish(told.failure),
  });
}

clients.forEach(follow);
process.on("SIGTERM", () => {
  for (const finish of going) finish("never came to the end of its stream");
  process.exit(0);
});
