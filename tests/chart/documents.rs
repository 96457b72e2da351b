//! That the guide names every value, and the examples are ones that the chart takes.

use serde_json::Value;

use crate::helm::{render_values, text, tool, yaml};

/// The paths of all values that have none below them.
fn leaves(path: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&below, value, out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

/// Whoever reads the guide finds each value, and finds none that there is not.
#[test]
fn the_guide_names_every_value() {
    let values = yaml(&text("helm/tidegate/values.yaml"));
    let guide = text("helm/tidegate/README.md");
    let mut known = vec![];
    leaves("", &values, &mut known);
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    for path in &known {
        let explained = told.iter().any(|row| {
            let inside = path.strip_prefix(row).is_some_and(|rest| rest.starts_with('.'));
            row == path || inside
        });
        assert!(explained, "README.md says nothing of {path}");
    }
    for row in told {
        let pointer = format!("/{}", row.replace('.', "/"));
        assert!(values.pointer(&pointer).is_some(), "README.md tells of {row}, which is no value");
    }
}

/// The umbrella's values for us are values of ours.
#[test]
fn the_example_is_one() {
    let Some(helm) = tool("helm") else { return };
    let mut values = yaml(&text("helm/examples/with-nats/values.yaml"))["tidegate"].take();
    // Both charts are given their names, so that one finds the other.
    let name = values.as_object_mut().and_then(|all| all.remove("fullnameOverride"));
    assert_eq!(name, Some(Value::from("tidegate")));
    let rendered = render_values(&helm, &values).expect("it renders");
    assert!(rendered.configuration().contains("history"), "{}", rendered.configuration());
    let umbrella = yaml(&text("helm/examples/with-nats/Chart.yaml"));
    let chart = yaml(&text("helm/tidegate/Chart.yaml"));
    assert_eq!(umbrella["dependencies"][0]["version"], chart["version"]);
    // The chart is of the gateway beside it.
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}
