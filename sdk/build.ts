// Builds `dist/`, which is committed: the modules of the package as `tsc` writes them; `tidegate.js`, the one file
// that the gateway serves; and `example/`, the page of `tidegate dev`. The same sources give the same bytes,
// wherever and whenever.
//
//     npm run build [folder]

import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { build } from "esbuild";
import { EXAMPLE_LICENSES, buildExample } from "./build.example.ts";

const here = import.meta.dirname;
const out = resolve(process.argv[2] ?? join(here, "dist"));
rmSync(out, { recursive: true, force: true });

const tsc = join(createRequire(import.meta.url).resolve("typescript/package.json"), "../bin/tsc");
const { status } = spawnSync(
  process.execPath,
  [tsc, "--project", join(here, "tsconfig.build.json"), "--outDir", out],
  { stdio: "inherit" },
);
if (status !== 0) process.exit(status ?? 1);

await build({
  absWorkingDir: here,
  entryPoints: ["src/everything.ts"],
  outfile: join(out, "tidegate.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  banner: { js: "// Tidegate's client. Apache-2.0; what else is in here: LICENSES.txt beside it in the package." },
});

// What is bundled into tidegate.js, and under which licence. Dependencies join here when there are any.
const licenses = ["tidegate.js holds Tidegate's client, Apache-2.0, and nothing of others.\n"];

// The page of `tidegate dev` stands beside it.
await buildExample(out);
for (const name of EXAMPLE_LICENSES) {
  const text = readFileSync(join(here, "node_modules", name, "LICENSE"), "utf8");
  licenses.push(`example/ holds ${name}:\n\n${text.trim()}\n`);
}
writeFileSync(join(out, "LICENSES.txt"), licenses.join(`\n${"-".repeat(80)}\n\n`));
