//! Views for people and editors: the effective configuration and its JSON Schema.
//! It must not show secrets, and must not know where the text goes.
//! Called by the command line and the admin address.

use serde_json::{json, Value};
use serde_yaml::value::Serializer;
use serde_yaml::with::singleton_map_recursive;
use windrose_plugins::PluginDef;

use super::schema::Config;
use super::{services, source, Loaded};

/// The effective configuration as YAML: defaults filled in, secrets replaced.
pub fn show(loaded: &Loaded) -> String {
    // Plain YAML would write `!header x` for a tagged enum; configurations say `{header: x}`.
    // Without `include` and `services_from`: what was read there is already in it. Without what services became.
    let mut config = Config {
        include: Vec::new(),
        services_from: None,
        ..loaded.config.clone()
    };
    services::take_back(&mut config);
    let value = singleton_map_recursive::serialize(&config, Serializer);
    let shown = value.and_then(|mut value| {
        source::redact(&mut value, Some(loaded.document.root()));
        serde_yaml::to_string(&value)
    });
    shown.unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
}

/// JSON Schema of a configuration, with the settings of each plugin, for editors.
pub fn json_schema(plugins: &[PluginDef]) -> Value {
    let mut root = schemars::schema_for!(Config).to_value();
    let Some(defs) = root.get_mut("$defs").and_then(Value::as_object_mut) else {
        return root;
    };
    let mut cases = Vec::new();
    for plugin in plugins {
        let name = format!("plugin_{}", plugin.kind);
        let mut schema = (plugin.schema)().to_value();
        rebase(&mut schema, &format!("#/$defs/{name}/$defs/"));
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("$schema");
        }
        let reference = json!({"$ref": format!("#/$defs/{name}")});
        cases.push(json!({
            "if": {"properties": {"kind": {"const": plugin.kind}}, "required": ["kind"]},
            "then": {"properties": {"config": reference}},
        }));
        defs.insert(name, schema);
    }
    if let Some(instance) = defs.get_mut("PluginInstance") {
        let kinds: Vec<&str> = plugins.iter().map(|plugin| plugin.kind).collect();
        instance["properties"]["kind"]["enum"] = json!(kinds);
        if !cases.is_empty() {
            instance["allOf"] = Value::Array(cases);
        }
    }
    root
}

/// Moves references of a schema that becomes part of another one.
fn rebase(schema: &mut Value, base: &str) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries.iter_mut() {
                match value {
                    Value::String(target) if key == "$ref" => {
                        if let Some(name) = target.strip_prefix("#/$defs/") {
                            *target = format!("{base}{name}");
                        }
                    }
                    _ => rebase(value, base),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, base)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
