// Reads a list of objects and says of each what its definition says of it.
import { readFileSync } from "node:fs";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1/ScaledObject";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";

const kinds = { HTTPRoute, PodMonitor, PrometheusRule, ScaledObject, ServiceMonitor };
const objects = JSON.parse(readFileSync(0, "utf8"));
const faults = objects.flatMap((object) => {
  try {
    new kinds[object.kind](object).validate();
    return [];
  } catch (why) {
    return [`${object.kind} ${object.metadata?.name}: ${why.message}`];
  }
});
console.log(faults.join("\n") || `${objects.length} objects are good`);
process.exitCode = faults.length ? 1 : 0;
