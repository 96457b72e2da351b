// The page that `tidegate dev` serves at `/`: this machine's load over the SDK, two ways to lose the
// connection and the proof that nothing is lost, a publish box, and a look at every Topic.
//
// It uses the public SDK alone, and the three routes of `gateway.ts` that only `dev` has. WHAT COMES IN A
// PUBLICATION IS HOSTILE, as anyone may publish to `demo.>`: it reaches the document as text, the charts as
// checked numbers, and every list has a bound.

import { render } from "preact";
import { Chart, Histogram } from "./chart.tsx";
import { gauges, start } from "./dashboard.ts";
import { Header } from "./header.tsx";
import { Lines } from "./lines.tsx";
import { Proof } from "./proof.tsx";
import { Publish } from "./publish.tsx";
import { Topics } from "./topics.tsx";

function Page() {
  return (
    <>
      <Header />
      <main>
        <Proof />
        <section aria-labelledby="live-title">
          <h2 class="hidden" id="live-title">This machine and this node, now</h2>
          <div class="charts">
            {gauges.map((gauge) => <Chart key={gauge.meter.title} gauge={gauge} />)}
            <Histogram />
          </div>
        </section>
        <div class="pair">
          <Publish />
          <Topics />
        </div>
        <Lines />
      </main>
    </>
  );
}

start();
render(<Page />, document.getElementById("page")!);
