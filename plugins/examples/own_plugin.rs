//! Windrose with a plugin of one's own; the same file in a crate that depends on `windrose` and `windrose-plugins` does.
use schemars::JsonSchema;
use serde::Deserialize;
use windrose_plugins::contract::*;

const PLUGIN: PluginDef = PluginDef::of::<ShopHours>();
static CLOSED: Cause = Cause {
    name: "shop.closed",
    blame: Blame::Policy,
    status: 503,
    title: "The shop is closed",
    explanation: "A `shop_hours` plugin refuses orders.",
    next_step: "Set `open: true`.",
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShopHours {
    /// Whether orders are taken.
    open: bool,
}

impl Plugin for ShopHours {
    const KIND: &'static str = "shop_hours";
    const ABOUT: &'static str = "refuse orders while the shop is closed";
    const EXAMPLE: &'static str = "open: true";
    const SAFETY: Safety = Safety::Guard;
    const CAUSES: &'static [&'static Cause] = &[&CLOSED];
    fn build(self, _: &Build<'_>) -> Result<Hooks, Vec<Problem>> {
        let hook = move |request: &mut Request<'_>| match request.head.method.as_str() {
            "POST" if !self.open => Answer::of(&CLOSED).into(),
            _ => Verdict::Continue,
        };
        Ok(Hooks::new().on_request(hook))
    }
}

fn main() -> std::process::ExitCode {
    windrose::main(&[windrose_plugins::BUILTIN, &[PLUGIN]])
}
