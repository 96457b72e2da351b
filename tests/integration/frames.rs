//! Frames that no browser sends: each is answered by the close that the protocol names for it, or by
//! nothing, and never by harm to others.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::harness::raw::{HANDSHAKE, Raw, frame};
use crate::harness::{Gateway, Grants, SOON, Settings, run, soon};
use crate::unharmed::Unharmed;

/// Largest message of the node under test.
const LIMIT: usize = 4_096;
/// A refusal comes within this, also if the rest of its frame never does.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How the bytes of a case travel.
#[derive(Debug, Clone, Copy)]
enum Travel {
    /// After the handshake, at once.
    OnePiece,
    /// After the handshake, byte by byte.
    Bytes,
    /// In one packet with the handshake.
    BehindTheHandshake,
}

/// What a case comes to.
#[derive(Debug, Clone, Copy)]
enum End {
    /// This close, with this code in its reason; none for an empty reason.
    Closed(u16, Option<&'static str>),
    /// The Connection goes on, and answers.
    Alive,
}

const BROKEN: End = End::Closed(1002, Some("bad_message"));
const KIND: End = End::Closed(1003, Some("bad_message"));
const UTF8: End = End::Closed(1007, Some("bad_message"));
const TOO_BIG: End = End::Closed(1009, Some("too_big"));
const FLOOD: End = End::Closed(4429, Some("rate_limited"));
const TENTH: End = End::Closed(4400, Some("bad_message"));

type Case = (String, Vec<u8>, End);

fn settings() -> Settings {
    let mut settings = Settings::open().limit("frame_bytes: 4KiB");
    settings.anonymous = Grants::all(&["open.>", "honest.>"]);
    settings
}

/// A frame's header, masked, with this length in so many bytes.
fn header(first: u8, length: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![first, if bytes == 2 { 0xfe } else { 0xff }];
    out.extend_from_slice(&length.to_be_bytes()[8 - bytes..]);
    out
}

/// A close frame with this payload: status and reason.
fn close(status: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&status.to_be_bytes(), reason].concat())
}

/// A message in so many fragments, one byte in each of the first of them.
fn fragments(text: &str, number: usize) -> Vec<u8> {
    let (bytes, mut out) = (text.as_bytes(), Vec::new());
    for at in 0..number {
        let last = at + 1 == number;
        let first = if at == 0 { 0x01 } else { 0x00 } | if last { 0x80 } else { 0x00 };
        let part = if last { bytes.get(at..) } else { bytes.get(at..=at) };
        out.extend(frame(first, part.unwrap_or_default()));
    }
    out
}

/// Lengths, masks, bits, opcodes and order.
fn broken_frames() -> Vec<Case> {
    let ping = br#"{"type":"ping"}"#;
    let limit = LIMIT as u64;
    let mut cases = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, end: End| cases.push((name.to_owned(), bytes, end));

    // Declared lengths; of the payload, nothing is sent.
    add("one byte too long", header(0x81, limit + 1, 2), TOO_BIG);
    add("64 KiB - 1", header(0x81, (1 << 16) - 1, 2), TOO_BIG);
    for (name, length) in [
        ("64 KiB", 1 << 16),
        ("1 GiB", 1 << 30),
        ("2^62", 1 << 62),
        ("2^63 - 1", (1 << 63) - 1),
        ("2^63", 1 << 63),
        ("2^64 - 1", u64::MAX),
    ] {
        add(name, header(0x81, length, 8), TOO_BIG);
        add(&format!("a fragment of {name}"), header(0x01, length, 8), TOO_BIG);
        let inside = [frame(0x01, b"{"), header(0x80, length, 8)].concat();
        add(&format!("a continuation of {name}"), inside, TOO_BIG);
    }
    let rest = limit - 3_999;
    let over = [frame(0x01, &[b' '; 4_000]), header(0x80, rest, 2)].concat();
    // 4,000 and 97 bytes: the header of the second has its length in 7 bits.
    let over = [&over[..over.len() - 4], &[0x80, 0x80 | 97]].concat();
    add("fragments that are too long together", over, TOO_BIG);
    add("65 fragments", fragments("{\"type\":\"ping\"}", 65), TOO_BIG);
    add("65 empty fragments", [frame(0x01, b""), frame(0x00, b"").repeat(64)].concat(), TOO_BIG);

    // Binary.
    add("an empty binary message", frame(0x82, b""), KIND);
    add("a Command as binary", frame(0x82, ping), KIND);
    add("a fragment of a binary message", frame(0x02, b"a"), KIND);
    add("the first byte of a binary frame", vec![0x82], KIND);
    add("a binary frame of 2^63", header(0x82, 1 << 63, 8), KIND);

    // Masks.
    add("a Command without mask", [&[0x81, 15], &ping[..]].concat(), BROKEN);
    add("an empty frame without mask", vec![0x81, 0], BROKEN);
    add("a ping without mask", vec![0x89, 0], BROKEN);
    add("a goodbye without mask", vec![0x88, 2, 3, 0xe8], BROKEN);
    add("a long frame without mask", vec![0x81, 127], BROKEN);

    // Bits and opcodes.
    for bits in [0x40, 0x20, 0x10, 0x70] {
        add(&format!("bits {bits:x}"), frame(0x81 | bits, ping), BROKEN);
        add(&format!("bits {bits:x} alone"), vec![0x81 | bits], BROKEN);
    }
    add("a reserved bit in a ping", frame(0xc9, b""), BROKEN);
    let inside = [frame(0x01, b"{"), frame(0xc0, b"}")].concat();
    add("a reserved bit in a continuation", inside, BROKEN);
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        add(&format!("opcode {opcode}"), frame(0x80 | opcode, b""), BROKEN);
        add(&format!("a fragment, opcode {opcode}"), vec![opcode], BROKEN);
    }

    // Control frames.
    for (name, opcode) in [("close", 8), ("ping", 9), ("pong", 10)] {
        add(&format!("a fragment of a {name}"), frame(opcode, b""), BROKEN);
        let long = frame(0x80 | opcode, &[b'x'; 126]);
        add(&format!("a {name} of 126 bytes"), long, BROKEN);
        add(&format!("a {name} of 2^63 bytes"), header(0x80 | opcode, 1 << 63, 8), BROKEN);
        add(&format!("a {name} with a long length"), header(0x80 | opcode, 1, 2), BROKEN);
    }

    // Order.
    add("an end without a beginning", frame(0x80, ping), BROKEN);
    add("a middle without a beginning", frame(0x00, ping), BROKEN);
    for (name, second) in [("whole", 0x81), ("a fragment", 0x01), ("binary", 0x82)] {
        let two = [frame(0x01, b"{"), frame(second, ping)].concat();
        add(&format!("a message in a message, {name}"), two, BROKEN);
    }
    let over = [fragments("{\"type\":\"ping\"}", 3), frame(0x80, b"")].concat();
    add("an end behind the end", over, BROKEN);
    cases
}

/// Text that is no UTF-8, and goodbyes.
fn broken_texts() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, end: End| cases.push((name.to_owned(), bytes, end));
    for (name, text) in [
        ("a lone byte", &b"\"\xff\""[..]),
        ("a lone continuation", b"\"\x80\""),
        ("an overlong NUL", b"\"\xc0\x80\""),
        ("an overlong slash", b"\"\xe0\x80\xaf\""),
        ("a surrogate", b"\"\xed\xa0\x80\""),
        ("beyond Unicode", b"\"\xf4\x90\x80\x80\""),
        ("cut at the end", b"\"\xe2\x82"),
    ] {
        add(name, frame(0x81, text), UTF8);
        let parts = [frame(0x01, &text[..2]), frame(0x80, &text[2..])].concat();
        add(&format!("{name}, in fragments"), parts, UTF8);
    }
    add("bad from the first fragment on", frame(0x01, b"\xff"), UTF8);
    let cut = [frame(0x01, b"\xe2\x82"), frame(0x00, b"\x20")].concat();
    add("a character that does not go on", cut, UTF8);
    let cut = [frame(0x01, b"\xe2\x82"), frame(0x80, b"")].concat();
    add("a character that never ends", cut, UTF8);

    add("a goodbye of one byte", frame(0x88, b"\x03"), BROKEN);
    for status in [0, 1, 999, 1_004, 1_005, 1_006, 1_015, 1_016, 1_100, 2_000, 2_999, 5_000, 65_535]
    {
        add(&format!("a goodbye with {status}"), close(status, b""), BROKEN);
    }
    add("a goodbye with 1005 and rubbish", close(1_005, b"\xff"), BROKEN);
    add("a goodbye in bad UTF-8", close(1_000, b"\xff"), UTF8);
    add("a goodbye that is cut", close(1_001, b"by\xe2\x82"), UTF8);
    add("a private goodbye in bad UTF-8", close(4_000, b"\xed\xa0\x80"), UTF8);
    add("an empty goodbye", frame(0x88, b""), End::Closed(1_000, None));
    for status in [1_000, 1_001, 1_002, 1_003, 1_007, 1_011, 1_014, 3_000, 3_999, 4_000, 4_999] {
        let end = End::Closed(status, None);
        add(&format!("a legal goodbye with {status}"), close(status, b"bye"), end);
    }
    let end = End::Closed(1_000, None);
    add("a goodbye of 125 bytes", close(1_000, &[b'x'; 123]), end);
    let more = [close(1_000, b""), frame(0x81, b"\xff"), vec![0xff; 20]].concat();
    add("rubbish behind a goodbye", more, end);
    let inside = [frame(0x01, b"{"), close(1_000, b"")].concat();
    add("a goodbye in a message", inside, end);
    cases
}

/// What is a flood, and what is not yet.
fn floods() -> Vec<Case> {
    let (ping, pong) = (frame(0x89, b""), frame(0x8a, b""));
    let bad = |number: usize| -> Vec<u8> {
        let texts = [
            "",
            "{",
            "[]",
            "null",
            "{}",
            "{\"type\":1}",
            "{\"type\":\"shout\"}",
            "{\"type\":\"ping\",\"id\":null}",
            "\u{feff}{\"type\":\"ping\"}",
            "{\"type\":\"ping\",\"type\":\"ping\"}",
        ];
        let texts = texts.iter().cycle().take(number);
        texts.flat_map(|text| frame(0x81, text.as_bytes())).collect()
    };
    [
        ("100 pings", ping.repeat(100), End::Alive),
        ("101 pings", ping.repeat(101), FLOOD),
        ("100 pongs", pong.repeat(100), End::Alive),
        ("101 pongs", pong.repeat(101), FLOOD),
        ("50 pings and 51 pongs", [ping.repeat(50), pong.repeat(51)].concat(), FLOOD),
        ("101 pings in a message", [frame(0x01, b"{"), ping.repeat(101)].concat(), FLOOD),
        ("nine bad Commands", bad(9), End::Alive),
        ("ten bad Commands", bad(10), TENTH),
        (
            "ten bad Commands and good ones between",
            bad(9).into_iter().chain(frame(0x81, br#"{"type":"ping"}"#)).chain(bad(1)).collect(),
            TENTH,
        ),
    ]
    .map(|(name, bytes, end)| (name.to_owned(), bytes, end))
    .into()
}

/// Odd, and legal.
fn odd_frames() -> Vec<Case> {
    let ping = "{\"type\":\"ping\"}";
    let mut padded = ping.as_bytes().to_vec();
    padded.resize(LIMIT, b' ');
    let in_halves = [frame(0x01, &padded[..2_000]), frame(0x80, &padded[2_000..])].concat();
    let euro = "{\"type\":\"ping\",\"x\":\"€𝄞\"}".as_bytes();
    [
        ("a message at the limit", frame(0x81, &padded)),
        ("two fragments at the limit", in_halves),
        ("64 fragments", fragments(ping, 64)),
        (
            "a character cut by each fragment",
            fragments("{\"type\":\"ping\",\"x\":\"€𝄞\"}", euro.len()),
        ),
        (
            "pings between fragments",
            [
                frame(0x01, b"{\"type\""),
                frame(0x89, b"?"),
                frame(0x00, b":\"pi"),
                frame(0x8a, b""),
                frame(0x80, b"ng\"}"),
            ]
            .concat(),
        ),
        (
            "empty fragments",
            [frame(0x01, b""), frame(0x00, b""), frame(0x80, ping.as_bytes())].concat(),
        ),
        ("a ping of 125 bytes", frame(0x89, &[b'x'; 125])),
        ("a pong that nobody asked for", frame(0x8a, b"!")),
        ("pings of no UTF-8", frame(0x89, b"\xff\xfe").repeat(3)),
        ("a length with more bytes than it needs", [header(0x81, 0, 8), vec![0; 4]].concat()),
        ("an empty message", frame(0x81, b"")),
        ("a NUL", frame(0x81, b"\0")),
        ("white space around a Command", frame(0x81, b" \r\n\t{\"type\":\"ping\"}\n")),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes, End::Alive))
    .into()
}

/// The next frame of the node: its first byte and its payload.
async fn next(raw: &mut Raw) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    raw.stream.read_exact(&mut head).await.ok()?;
    let length = match head[1] {
        126 => usize::from(raw.stream.read_u16().await.ok()?),
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    raw.stream.read_exact(&mut payload).await.ok()?;
    Some((head[0], payload))
}

/// Asserts that a Connection that has sent its frames still answers a Command.
async fn answers(raw: &mut Raw, about: &str) {
    raw.send(&frame(0x81, br#"{"type":"ping","id":"last"}"#)).await;
    loop {
        let Some((first, payload)) = soon(about, next(raw)).await else {
            panic!("{about}: it is gone");
        };
        assert_ne!(first, 0x88, "{about}: {}", String::from_utf8_lossy(&payload));
        let text: Value = serde_json::from_slice(&payload).unwrap_or_default();
        if text["id"] == "last" {
            assert_eq!(text["type"], "pong", "{about}");
            return;
        }
    }
}

async fn plays(gateway: &Gateway, (name, bytes, end): &Case, travel: Travel) {
    let about = format!("{name}, {travel:?}");
    let mut raw = match travel {
        Travel::BehindTheHandshake => {
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(&[HANDSHAKE.as_bytes(), bytes].concat()).await;
            let head = raw.head().await;
            assert!(head.starts_with("HTTP/1.1 101"), "{about}: {head}");
            raw
        }
        Travel::OnePiece => {
            let mut raw = Raw::upgraded(gateway.client).await;
            raw.send(bytes).await;
            raw
        }
        Travel::Bytes => {
            let mut raw = Raw::upgraded(gateway.client).await;
            raw.send_slowly(bytes).await;
            raw
        }
    };
    match *end {
        End::Closed(status, code) => {
            let closed = timeout(AT_ONCE, raw.close(SOON)).await;
            let Ok(Some((got, reason))) = closed else {
                panic!("{about}: {closed:?}");
            };
            assert_eq!(got, status, "{about}: {reason}");
            match code {
                None => assert_eq!(reason, "", "{about}"),
                Some(code) => {
                    let read: Value = serde_json::from_str(&reason).expect(&about);
                    assert_eq!(read["code"], code, "{about}: {reason}");
                    assert_eq!(read["retry"], json!(status == 4_429), "{about}: {reason}");
                }
            }
        }
        End::Alive => answers(&mut raw, &about).await,
    }
}

async fn play(cases: Vec<Case>, least: usize) {
    assert!(cases.len() >= least, "{} cases", cases.len());
    let gateway = Gateway::start(settings()).await;
    let mut unharmed = Unharmed::before(&gateway).await;
    for travel in [Travel::OnePiece, Travel::Bytes, Travel::BehindTheHandshake] {
        for case in &cases {
            plays(&gateway, case, travel).await;
        }
        unharmed.after(&gateway).await;
    }
}

/// What breaks the framing is closed with the status for it, from the header alone, however its
/// bytes travel.
#[test]
fn broken_frames_are_refused_from_their_header() {
    run(play(broken_frames(), 70));
}

/// Text must be UTF-8 in one frame, over fragments and in a goodbye; goodbyes have legal statuses,
/// which are answered.
#[test]
fn text_is_utf8_and_goodbyes_are_legal() {
    run(play(broken_texts(), 45));
}

/// The 101st control frame and the tenth bad Command close; one fewer of each does not.
#[test]
fn floods_are_cut_off_at_their_bounds() {
    run(play(floods(), 9));
}

/// What is odd and legal harms nobody, and its Connection goes on.
#[test]
fn odd_frames_are_taken() {
    run(play(odd_frames(), 13));
}

/// Each bad Command is answered by an `error` of its own before the tenth closes.
#[test]
fn bad_commands_are_answered_one_by_one() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut raw = Raw::upgraded(gateway.client).await;
        raw.send(&frame(0x81, b"{\"id\":1}").repeat(10)).await;
        let mut errors = 0;
        loop {
            let (first, payload) = soon("a frame", next(&mut raw)).await.expect("a frame");
            let text: Value = serde_json::from_slice(&payload).unwrap_or_default();
            match first {
                0x88 => break assert_eq!(payload[..2], 4_400_u16.to_be_bytes()),
                _ if text["type"] == "connected" => {}
                _ => {
                    errors += 1;
                    assert_eq!((&text["code"], &text["id"]), (&json!("bad_message"), &json!(1)));
                }
            }
        }
        assert_eq!(errors, 10);
    });
}

/// A ping is answered by its own payload, also in the middle of a message.
#[test]
fn pings_come_back_as_they_went() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut raw = Raw::upgraded(gateway.client).await;
        let payloads = [&b""[..], b"x", b"\xff\0\r\n", &[b'y'; 125]];
        raw.send(&frame(0x01, b"{")).await;
        for payload in payloads {
            raw.send(&frame(0x89, payload)).await;
            let pong = soon("a pong", next(&mut raw)).await;
            assert_eq!(pong, Some((0x8a, payload.to_vec())));
        }
    });
}

/// Compression is offered in every way there is, and never taken.
#[test]
fn compression_is_never_negotiated() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        for offer in [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=15; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits=8, permessage-deflate",
            "x-webkit-deflate-frame",
            "permessage-bzip2",
            "permessage-deflate; no=\"such, thing\"",
            "",
        ] {
            let line = format!("Sec-WebSocket-Extensions: {offer}\r\n\r\n");
            let handshake =
                format!("{}{line}", HANDSHAKE.trim_end_matches("\r\n").to_owned() + "\r\n");
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(handshake.as_bytes()).await;
            let head = raw.head().await;
            assert!(head.starts_with("HTTP/1.1 101"), "{offer}: {head}");
            let head = head.to_ascii_lowercase();
            assert!(!head.contains("sec-websocket-extensions"), "{offer}: {head}");
            // An empty deflate block is what a client that believes in it would send.
            raw.send(&frame(0xc1, &[0xaa, 0x56, 0x4a, 0x05, 0x00])).await;
            let (status, _) = raw.close(AT_ONCE).await.expect("a close");
            assert_eq!(status, 1_002, "{offer}");
        }
        unharmed.after(&gateway).await;
    });
}

/// Half a frame and then nothing is no sign of life: it is pinged, and given up.
#[test]
fn half_a_frame_is_no_life() {
    run(async {
        let settings = settings().limit("ping_after: 1s").limit("pong_timeout: 1s");
        let gateway = Gateway::start(settings).await;
        let whole = frame(0x81, &[b' '; 200]);
        let mut raws = Vec::new();
        for part in [1, 2, 3, 4, 7, 8, 9, 207] {
            let mut raw = Raw::upgraded(gateway.client).await;
            raw.send(&whole[..part]).await;
            raws.push((part, raw));
        }
        for (part, mut raw) in raws {
            let ping = soon("a ping", next(&mut raw)).await;
            assert_eq!(ping, Some((0x89, Vec::new())), "{part}");
            let (status, reason) = raw.close(Duration::from_secs(5)).await.expect("a close");
            assert_eq!((status, reason.contains("no_pong")), (4_408, true), "{part}: {reason}");
        }
        gateway.until_count("connections", 0, Duration::from_secs(5)).await;
    });
}

/// At the limits that are the default, a message of 68 KiB is taken and one byte more is not.
#[test]
fn the_default_limit_is_the_largest_payload_and_4_kib() {
    run(async {
        let mut settings = Settings::open();
        settings.anonymous = Grants::all(&["open.>", "honest.>"]);
        let gateway = Gateway::start(settings).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let limit = 68 * 1_024;
        let mut padded = br#"{"type":"ping"}"#.to_vec();
        padded.resize(limit, b' ');
        let mut raw = Raw::upgraded(gateway.client).await;
        raw.send(&frame(0x81, &padded)).await;
        answers(&mut raw, "68 KiB").await;
        raw.send(&header(0x81, limit as u64 + 1, 8)).await;
        let (status, reason) = raw.close(AT_ONCE).await.expect("a close");
        assert_eq!((status, reason.contains("too_big")), (1_009, true), "{reason}");
        unharmed.after(&gateway).await;
    });
}

/// A hundred promises of 1 GiB, and a hundred of 2^63 bytes, cost next to nothing.
#[test]
fn promised_gigabytes_cost_no_memory() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let before = gateway.resident_bytes();
        for length in [1 << 30, 1 << 63] {
            let mut raws = Vec::new();
            for _ in 0..100 {
                let mut raw = Raw::upgraded(gateway.client).await;
                raw.send(&header(0x81, length, 8)).await;
                raws.push(raw);
            }
            for mut raw in raws {
                let (status, _) = raw.close(Duration::from_secs(2)).await.expect("a close");
                assert_eq!(status, 1_009);
            }
        }
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < 4 << 20, "{grown} bytes for 200 Connections");
        unharmed.after(&gateway).await;
    });
}
