import { readFileSync } from "node:fs";

import { SecretService } from "../gen/coffer/v1/secret_pb.js";
import { Client, CofferError } from "../src/index.js";

const client = new Client({
  addresses: process.env["COFFER_ADDR"]!,
  token: () => readFileSync(process.env["COFFER_TOKEN_FILE"]!, "utf8").trim(),
});

// Any method, by the generated services and @connectrpc/connect.
const made = await client.service(SecretService).createSecret({
  name: "tour-typescript", environment: "tour", values: [{ key: "TOKEN", value: new TextEncoder().encode("xoxb-of-the-tour") }],
});
console.log(`${made.secret!.name} has version ${made.secret!.version}`);

// What an executor does.
const resolved = await client.resolve(["tour-typescript.TOKEN", "${{ SECRETS['tour-typescript'].OTHER || 'none' }}"], {
  environment: "tour", workflowId: "wf-1", runId: "run-1", consistencyToken: made.consistencyToken,
});
const token = resolved.get("tour-typescript.TOKEN")!;
console.log(resolved.mask(`the token is ${token.text()}, and ${token.length} bytes long`));

try {
  await client.resolve(["tour-typescript.TOKN"], { environment: "tour" });
} catch (error) {
  if (error instanceof CofferError) {
    error.faults.forEach(({ outcome, reference }) => console.log(`${outcome}: ${reference}`));
  }
}
client.close();
