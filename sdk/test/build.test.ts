// What is committed in `dist/` is what these sources build, byte for byte; and what it costs a page is bounded.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { CLIENT } from "../src/codec.ts";

const sdk = join(import.meta.dirname, "..");

test("dist is fresh: `npm run build` if not", (t) => {
  const fresh = mkdtempSync(join(tmpdir(), "tidegate-dist-"));
  t.after(() => rmSync(fresh, { recursive: true }));
  const built = spawnSync(process.execPath, ["build.ts", fresh], { cwd: sdk, encoding: "utf8" });
  assert.equal(built.status, 0, built.stderr + built.stdout);
  assert.deepEqual(filesOf(join(sdk, "dist")), filesOf(fresh));
  for (const file of filesOf(fresh)) {
    assert.ok(
      readFileSync(join(fresh, file)).equals(readFileSync(join(sdk, "dist", file))),
      `dist/${file} is not what the sources build`,
    );
  }
});

function filesOf(folder: string): string[] {
  const all = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return all.map(({ parentPath, name }) => relative(folder, join(parentPath, name))).sort();
}

test("the client names its version", () => {
  const { version } = JSON.parse(readFileSync(join(sdk, "package.json"), "utf8")) as { version: string };
  assert.equal(CLIENT, `tidegate-js/${version}`);
});

/** What an import costs a page, minified and compressed by gzip -9. */
const LIMITS = [
  { what: "tidegate", code: `export { createClient } from "./src/index.ts"`, limit: 8_480 },
  { what: "tidegate and shared", code: `export { createClient } from "./src/index.ts"; export { shared } from "./src/shared.ts"`, limit: 8_928 },
  {
    what: "tidegate and sse",
    code: `export { createClient } from "./src/index.ts"; export { sse } from "./src/sse.ts"`,
    limit: 8_480 + 3_552,
  },
  { what: "tidegate.js, with what tabs share", code: `export * from "./src/everything.ts"`, limit: 13_984 },
];

for (const { what, code, limit } of LIMITS) {
  test(`${what} is at most ${limit} bytes`, async (t) => {
    const { outputFiles } = await build({
      stdin: { contents: code, resolveDir: sdk },
      bundle: true,
      minify: true,
      format: "esm",
      target: "es2022",
      write: false,
    });
    const bytes = gzipSync(outputFiles[0]?.contents ?? "", { level: 9 }).length;
    t.diagnostic(`${what}: ${bytes} bytes of ${limit}`);
    assert.ok(bytes <= limit, `${bytes} bytes`);
  });
}
