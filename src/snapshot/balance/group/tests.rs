//! How traffic divides between levels: Envoy's examples, bounds for any counts, and what a table makes of it.
//! It must not know how a level chooses.
//! Run by the test harness, with fixed seeds.

use proptest::prelude::*;

use super::*;

fn parts(counts: &[(usize, usize)], panic: f64) -> Vec<(f64, Share)> {
    let mut loads = vec![NONE; counts.len()];
    divide(counts, panic, &mut loads);
    let part = |load: &Load| {
        let percent = f64::from(load.part) * 100.0 / f64::from(WHOLE);
        (percent.round(), load.share)
    };
    loads.iter().map(part).collect()
}

#[test]
fn levels_share_as_envoy_documents_it() {
    use Share::{Enough, Few, None};

    // "Priority levels" in Envoy's documentation: 72 % still carry all, 71 % leave one percent over, and so on.
    assert_eq!(parts(&[(72, 100), (100, 100)], 0.5)[0], (100.0, Enough));
    assert_eq!(
        parts(&[(71, 100), (100, 100)], 0.5),
        [(99.0, Enough), (1.0, Enough)]
    );
    assert_eq!(
        parts(&[(50, 100), (100, 100)], 0.5),
        [(70.0, Enough), (30.0, Enough)]
    );
    assert_eq!(
        parts(&[(25, 100), (100, 100)], 0.5),
        [(35.0, Enough), (65.0, Enough)]
    );
    assert_eq!(
        parts(&[(25, 100), (25, 100)], 0.5),
        [(50.0, Few), (50.0, Few)]
    );
    assert_eq!(
        parts(&[(0, 100), (0, 100), (25, 100)], 0.0),
        [(0.0, None), (0.0, None), (100.0, Enough)]
    );
    // "Panic threshold": 5 % and 65 % make 98 %, so the first level panics with 7 %.
    assert_eq!(
        parts(&[(5, 100), (65, 100)], 0.5),
        [(7.0, Few), (93.0, Enough)]
    );
    // All below the threshold: members count.
    assert_eq!(
        parts(&[(10, 100), (5, 50)], 0.5),
        [(67.0, Few), (33.0, Few)]
    );
}

#[test]
fn nobody_available_is_no_traffic_at_any_threshold() {
    assert_eq!(
        parts(&[(0, 3), (0, 3)], 0.5),
        [(0.0, Share::None), (0.0, Share::None)]
    );
}

proptest! {
    #[test]
    fn parts_make_the_whole_and_go_to_levels_that_have_someone(
        counts in prop::collection::vec((0..50_usize, 0..50_usize), 1..12),
        panic in 0..=100_u32,
    ) {
        let counts: Vec<(usize, usize)> =
            counts.iter().map(|(one, more)| (*one, one + more + 1)).collect();
        let panic = f64::from(panic) / 100.0;
        let mut loads = vec![NONE; counts.len()];

        divide(&counts, panic, &mut loads);

        let sum: u32 = loads.iter().map(|load| load.part).sum();
        let is_down = counts.iter().all(|(available, _)| *available == 0);
        prop_assert_eq!(sum, if is_down { 0 } else { WHOLE });
        for (load, (available, _)) in loads.iter().zip(&counts) {
            if load.part > 0 {
                prop_assert!(load.share != Share::None);
                prop_assert!(*available > 0 || load.share == Share::Few);
            }
            prop_assert!(panic > 0.0 || load.share != Share::Few);
        }
    }

    /// A level that gets healthier never loses traffic to a later one.
    #[test]
    fn the_first_level_keeps_what_it_can_carry(available in 1..100_usize, others in 1..100_usize) {
        let counts = [(available, 100), (others, 100)];
        let mut loads = [NONE; 2];

        divide(&counts, 0.5, &mut loads);

        let carried = (available as f64 * 1.4).min(100.0);
        let part = f64::from(loads[0].part) * 100.0 / f64::from(WHOLE);
        if available + others >= 72 {
            prop_assert!((part - carried).abs() < 0.1, "{} {}", part, carried);
        }
    }
}
