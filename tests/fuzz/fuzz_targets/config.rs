//! Configuration text: anything is refused or loaded, nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = windrose::config::load_text("fuzz.yaml", text, windrose_plugins::BUILTIN);
});
