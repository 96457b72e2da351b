// The page that `tidegate dev` serves, into `dist/example/`. The client itself stays outside: the page imports
// the same `/tidegate.js` as everybody's.

import { copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

/** Whose code it holds. */
export const EXAMPLE_LICENSES = ["preact", "uplot"] as const;

const HERE = import.meta.dirname;

export async function buildExample(dist: string): Promise<void> {
  const out = join(dist, "example");
  await mkdir(out, { recursive: true });
  const common = { absWorkingDir: HERE, outdir: out, bundle: true, minify: true, legalComments: "none", target: "es2022" } as const;
  await Promise.all([
    build({
      ...common,
      entryPoints: { page: "example/main.tsx" },
      format: "esm",
      jsx: "automatic",
      jsxImportSource: "preact",
      alias: { tidegate: "/tidegate.js" },
      external: ["/tidegate.js"],
    }),
    build({ ...common, entryPoints: { page: "example/style.css" } }),
    ...["index.html", "icon.svg"].map((name) => copyFile(join(HERE, "example", name), join(out, name))),
  ]);
}
