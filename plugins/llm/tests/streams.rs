//! Streams: what is read of them, what is taken out, and that no cut of their bytes matters.
//! It must not know budgets.
//! Part of `llm`'s tests.

use proptest::prelude::*;

use super::super::reader::{Reader, Strip};
use super::super::usage::Usage;
use super::*;

const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"data: [DONE]\\n\\nusage\"}}],\"usage\":null}\n\n: ping\n\ndata: {\"choices\":[],\"x\":[]}\n\nevent: x\ndata:{\"choices\": [ ],\ndata: \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}\n\ndata: [DONE]\n\n";
const STRIPPED: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"data: [DONE]\\n\\nusage\"}}],\"usage\":null}\n\n: ping\n\ndata: {\"choices\":[],\"x\":[]}\n\ndata: [DONE]\n\n";

/// What goes on of a stream that comes in these pieces, and what was heard.
fn read<'p>(strip: Strip, pieces: impl Iterator<Item = &'p [u8]>) -> (Vec<u8>, Usage, u64) {
    let mut reader = Reader::events(strip);
    let mut out = Vec::new();
    for bytes in pieces {
        let mut piece = Some(Bytes::copy_from_slice(bytes));
        reader.piece(&mut piece);
        out.extend(piece.unwrap_or_default());
    }
    out.extend(reader.end());
    (out, reader.usage(), reader.came())
}

fn total(reader: &Reader) -> u64 {
    let usage = reader.usage();
    usage.prompt + usage.completion
}

#[test]
fn the_event_that_only_tells_of_usage_is_taken_out_where_nobody_asked() {
    for (ends, _) in [("\n", 0), ("\r\n", 0), ("\r", 0)] {
        let (stream, stripped) = (STREAM.replace('\n', ends), STRIPPED.replace('\n', ends));
        let (stream, stripped) = (stream.replace(&format!("\\{ends}"), "\\n"), stripped);
        for cut in 1..stream.len() {
            let (out, usage, came) = read(Strip::Usage, stream.as_bytes().chunks(cut));
            assert_eq!(
                String::from_utf8_lossy(&out),
                stripped,
                "{ends:?} cut every {cut}"
            );
            assert_eq!((usage.prompt, usage.completion, came), (5, 6, 4));
            let (out, usage, _) = read(Strip::Nothing, stream.as_bytes().chunks(cut));
            assert_eq!(
                (&*out, usage.prompt + usage.completion),
                (stream.as_bytes(), 11)
            );
        }
    }
}

#[test]
fn a_stream_is_asked_for_its_usage_only_where_the_client_did_not() {
    let kit = Kit::new();
    let plugin = kit.instance(&PLUGIN, "max_tokens: 9");
    for (more, expected) in [
        ("", STRIPPED),
        (",\"stream_options\":{\"include_usage\":true}", STREAM),
    ] {
        let mut exchange = ask(&format!("{{\"model\":\"m\",\"stream\":true{more}}}"));
        assert!(went_on(&plugin.request(&mut exchange)));
        assert_eq!(body_of(&exchange)["stream_options"]["include_usage"], true);
        let got = answers(
            &plugin,
            &mut exchange,
            "text/event-stream",
            &[STREAM.as_bytes()],
        );
        assert_eq!(String::from_utf8_lossy(&got), expected);
    }
    assert_eq!(kit.counted_of("completion_tokens", "other"), 12);
    let mut responses = Exchange::new("POST", "http://llm.test/v1/responses")
        .with_body(r#"{"model":"m","stream":true}"#);
    assert!(went_on(&plugin.request(&mut responses)));
    assert_eq!(body_of(&responses).get("stream_options"), None);
}

#[test]
fn the_other_apis_tell_in_their_own_ways() {
    for (path, stream) in [
        (
            "responses",
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\nevent: response.completed\ndata: {\"response\":{\"output\":[{\"usage\":{\"input_tokens\":99}}],\"usage\":{\"input_tokens\":7,\"output_tokens\":8}}}\n\n",
        ),
        (
            "messages",
            "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\nevent: message_delta\ndata: {\"delta\":{},\"usage\":{\"output_tokens\":8}}\n\n",
        ),
    ] {
        let kit = Kit::new();
        let plugin = kit.instance(&PLUGIN, "max_tokens: 9");
        let mut exchange = Exchange::new("POST", &format!("http://llm.test/v1/{path}"))
            .with_body(r#"{"model":"m","stream":true}"#);
        assert!(went_on(&plugin.request(&mut exchange)));
        let got = answers(&plugin, &mut exchange, "text/event-stream", &[stream.as_bytes()]);
        assert_eq!(got, stream.as_bytes());
        let counted = ["prompt_tokens", "completion_tokens"].map(|event| kit.counted(event));
        assert_eq!(counted, [7, 8], "{path}");
    }
}

#[test]
fn an_event_without_end_is_not_held_and_goes_on_as_it_comes() {
    let endless = vec![b'x'; 1 << 20];
    let pieces = [&b"data: {\"a\":\""[..], &endless, b"\"}\n\n"];

    let mut reader = Reader::events(Strip::Usage);
    let mut held = 0;
    let mut came = 0;
    for bytes in pieces.iter().flat_map(|bytes| bytes.chunks(1000)) {
        let mut piece = Some(Bytes::copy_from_slice(bytes));
        reader.piece(&mut piece);
        came += bytes.len();
        held += piece.unwrap_or_default().len();
        assert!(
            came - held <= (16 << 10) + 1,
            "{} bytes are held",
            came - held
        );
    }
    assert_eq!(came, held);
}

#[test]
fn what_breaks_off_in_the_middle_of_an_event_goes_on() {
    let (out, _, _) = read(
        Strip::Usage,
        [&b"data: {\"choices\":[],\"usage\":{}"[..]].into_iter(),
    );

    assert_eq!(out, b"data: {\"choices\":[],\"usage\":{}");
}

#[test]
fn usage_is_not_believed_where_it_does_not_belong() {
    for (document, expected) in [
        (r#"{"a":{"usage":{"total_tokens":5}}}"#, 0),
        (r#"[{"usage":{"total_tokens":5}}]"#, 0),
        (r#"{"x":"usage","y":{"total_tokens":5}}"#, 0),
        (r#"{"x":["usage",{"total_tokens":5}]}"#, 0),
        (r#"{"us\u0061ge":{"total_tokens":5}}"#, 0),
        (r#"{"usages":{"total_tokens":5}}"#, 0),
        (r#"{"response":[{"usage":{"total_tokens":5}}]}"#, 0),
        (r#"{"a":{"response":{"usage":{"total_tokens":5}}}}"#, 0),
        (r#"{"a":"\\","usage":{"total_tokens":5}}"#, 5),
        (
            r#"{"a":"\"}","usage" : {"total_tokens":5,"d":{"e":"}"}}}"#,
            5,
        ),
        (r#"{"response":{"a":[[{}]],"usage":{"total_tokens":5}}}"#, 5),
    ] {
        let mut reader = Reader::document();
        reader.piece(&mut Some(Bytes::copy_from_slice(document.as_bytes())));
        assert_eq!(total(&reader), expected, "{document}");
    }
}

proptest! {
    /// Whatever bytes come, however they are cut: nothing is lost or changed where nothing is to be taken out.
    #[test]
    fn strangers_bytes_pass_unchanged(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 1_usize..50) {
        let (out, _, _) = read(Strip::Nothing, bytes.chunks(cut));
        prop_assert_eq!(&out, &bytes);
        let mut document = Reader::document();
        for bytes in bytes.chunks(cut) {
            document.piece(&mut Some(Bytes::copy_from_slice(bytes)));
        }
    }

    /// What is taken out, and what is heard, does not depend on where a stream is cut.
    #[test]
    fn cuts_do_not_matter(text in "(data: ?|event:x|[{}\\[\\]\":,a\\\\]|choices|usage|total_tokens|[0-9]|\r|\n|\n\n|\r\n){0,60}", cut in 1_usize..20) {
        let whole = read(Strip::Usage, std::iter::once(text.as_bytes()));
        let pieces = read(Strip::Usage, text.as_bytes().chunks(cut));
        prop_assert_eq!(whole, pieces);
    }

    /// What a JSON reader finds in a document is what is found as it passes.
    #[test]
    fn a_document_tells_what_a_parser_reads(tokens in 0_u64..1000, before in "[a-z\"\\\\{}\\[\\]:,]{0,30}", deep in 0_usize..20, cut in 1_usize..20) {
        let value = (0..deep).fold(serde_json::json!({"usage": before}), |inner, _| serde_json::json!([inner, {"usage": {"total_tokens": 7}}]));
        let document = serde_json::json!({"a": before, "b": value, "usage": {"total_tokens": tokens}, "z": before}).to_string();
        let mut reader = Reader::document();
        for bytes in document.as_bytes().chunks(cut) {
            reader.piece(&mut Some(Bytes::copy_from_slice(bytes)));
        }
        prop_assert_eq!(total(&reader), tokens);
    }
}
