// Runs the audits of graphql-http against URL with TOKEN; prints one JSON line per audit.
import { serverAudits } from "graphql-http";

const { URL: url, TOKEN: token } = process.env;

const fetchAs = (input, init = {}) =>
  fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } });

for (const audit of serverAudits({ url, fetchFn: fetchAs })) {
  const result = await audit.fn();
  const { response, ...rest } = result;
  console.log(JSON.stringify({ ...rest, id: audit.id, name: audit.name }));
}
