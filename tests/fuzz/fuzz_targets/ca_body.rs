//! Bodies of calls to the built-in authority, before it is known who calls: nothing panics, and what is wrong with one is told
//! without a word of it, as it may hold a token. The same for what an authority answers.
#![no_main]

use windrose::ca::wire::{read, Ask, Issued, Join, Joined, Refused, Sync};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let told = [
        read::<Join>(body).map(|_| ()),
        read::<Ask>(body).map(|_| ()),
        read::<Sync>(body).map(|_| ()),
    ];
    for detail in told.into_iter().filter_map(Result::err) {
        let words = detail.trim_end_matches(|c: char| c.is_ascii_digit());
        assert_eq!(words, "not the JSON of this call, at column ");
    }
    let _ = read::<Joined>(body);
    let _ = read::<Issued>(body);
    let _ = read::<Refused>(body);
});
