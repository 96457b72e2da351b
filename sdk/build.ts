// Builds `dist/`, which is committed: the modules of the package as `tsc` writes them, with the one dependency beside
// them; `tidegate.js`, the one file that the gateway serves; and `example/`, the page of `tidegate dev`. The same
// sources give the same bytes, wherever and whenever.
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

const settings = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
} as const;

await build({
  ...settings,
  entryPoints: ["src/everything.ts"],
  outfile: join(out, "tidegate.js"),
  banner: { js: "// Tidegate's client. Apache-2.0; what else is in here: LICENSES.txt beside it in the package." },
});

// Nobody who installs the package has to install what it is made with.
const parser = "eventsource-parser";
await build({
  ...settings,
  stdin: { contents: `export { createParser } from "${parser}";`, resolveDir: here },
  outfile: join(out, `${parser}.js`),
});
const stream = join(out, "stream.js");
writeFileSync(stream, readFileSync(stream, "utf8").replace(`"${parser}"`, `"./${parser}.js"`));

// The page of `tidegate dev` stands beside it.
await buildExample(out);

// What is bundled, and under which licence.
const licence = (name: string): string => readFileSync(join(here, "node_modules", name, "LICENSE"), "utf8").trim();
const licenses = [
  `tidegate.js holds Tidegate's client, Apache-2.0, and ${parser}, as ${parser}.js does:\n\n${licence(parser)}\n`,
  ...EXAMPLE_LICENSES.map((name) => `example/ holds ${name}:\n\n${licence(name)}\n`),
];
writeFileSync(join(out, "LICENSES.txt"), licenses.join(`\n${"-".repeat(80)}\n\n`));
