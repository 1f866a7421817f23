use super::*;

const GOLDEN: &str = include_str!("../../../tests/golden/status/attention.txt");

fn view() -> Value {
    let text = include_str!("../../../tests/golden/status/attention.json");
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_screen_looks_as_it_was_drawn() {
    let screen = render(&view(), Paint::Plain);

    assert_eq!(screen, GOLDEN, "drawn now:\n{screen}");
}

#[test]
fn colour_changes_no_word() {
    let coloured = render(&view(), Paint::Colour);

    let plain = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
    assert!(coloured.starts_with("\x1b[1;31m3 things need attention"));
    assert_eq!(plain.replace_all(&coloured, ""), GOLDEN);
}

#[test]
fn a_process_that_is_well_says_so_first() {
    let mut view = view();
    view["attention"] = Value::Array(Vec::new());

    let screen = render(&view, Paint::Plain);

    assert!(screen.starts_with("all is well\n"), "{screen}");
}

#[test]
fn long_tables_are_cut_to_a_screen() {
    let mut view = view();
    let pool = view["pools"][1].clone();
    view["pools"] = Value::Array(vec![pool; 1000]);

    let screen = render(&view, Paint::Plain);

    assert!(screen.contains("  and 985 more\n"), "{screen}");
}

#[test]
fn times_are_told_in_their_two_largest_units() {
    let told = [59.0, 61.0, 3_660.0, 273_600.0].map(span);

    assert_eq!(told, ["59 s", "1 min 1 s", "1 h 1 min", "3 d 4 h"]);
}
