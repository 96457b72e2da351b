// Reads an AsyncAPI document and says what its parser says of it.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const faults = diagnostics.filter(({ severity }) => severity <= 1);
for (const { severity, message, path } of faults) {
  console.log(`${severity === 0 ? "error" : "warning"} at ${path.join("/")}: ${message}`);
}
const operations = document?.allOperations().all() ?? [];
console.log(`${operations.length} operations, ${document?.allMessages().all().length ?? 0} messages`);
process.exitCode = document && !faults.length ? 0 : 1;
