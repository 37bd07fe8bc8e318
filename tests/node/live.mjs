// Follows the stream of job ID at URL with TOKEN through graphql-ws, cutting its own connection now and then.
// Resumes by cursor and prints one JSON line: {seqs, closes, kinds} once the stream has ended.
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const { URL: url, TOKEN: token, ID: id, DOCUMENT: query, ITEMS: items, CUTS: cuts } = process.env;

let socket = null;
let cutsLeft = Number(cuts);
const closes = [];
const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: () => ({ authorization: `Bearer ${token}` }),
  retryAttempts: 100,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 50)),
  shouldRetry: () => true,
  on: {
    opened: (opened) => { socket = opened; },
    closed: (event) => closes.push(event.code),
  },
});

// graphql-ws sends this very object again when it reconnects: moving `after` is all that resuming takes.
const variables = { id, after: null };
const seqs = [];
const kinds = [];

client.subscribe({ query, variables }, {
  next: ({ data, errors }) => {
    if (errors) throw new Error(JSON.stringify(errors));
    const frame = Object.values(data)[0];
    kinds.push(frame.kind);
    variables.after = frame.cursor;
    for (const item of frame[items]) seqs.push(Number(item.seq));
    console.error(`seen ${seqs.length}`);
    if (frame.kind === "EVENTS" && cutsLeft > 0) {
      cutsLeft -= 1;
      socket.terminate();
    }
  },
  error: (error) => {
    console.error(error);
    process.exit(1);
  },
  complete: () => {
    console.log(JSON.stringify({ seqs, closes, kinds }));
    process.exit(0);
  },
});
