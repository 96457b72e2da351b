//! What a Shard does when Feeds or a socket do not take what it has.

use std::num::NonZeroU32;
use std::time::Duration;

use opentelemetry::global;
use socket2::SockRef;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;
use crate::admission::{self, Admission};
use crate::auth::Grants;
use crate::bus;
use crate::feed::{Source, Ticket};
use crate::namespace::Namespaces;
use crate::protocol::frame::{self, From, Wanted};
use crate::protocol::replay::Replay;
use crate::protocol::stream::Format;
use crate::publication::{Publication, Timestamp};
use crate::publisher;
use crate::session::limits::Rate;
use crate::session::stream::Streaming;
use crate::topic::Topic;

fn world(feeds: Feeds) -> World {
    let namespaces = Arc::new(Namespaces::new(std::collections::BTreeMap::new(), false));
    let all = vec![Pattern::parse(">").unwrap()];
    let grants = Grants { subscribe: all.clone(), publish: all, history: Vec::new() };
    let auth = Auth::with_secret(&[7; 32], grants).unwrap();
    let many = NonZeroU32::new(1_000).unwrap();
    let publishers =
        publisher::Config { per_user: many, per_user_burst: many, per_key: many, in_flight: 10 };
    let publisher = Publisher::new(
        &publishers,
        bus::Door::Memory(bus::memory::Memory::new([], || Timestamp(0))),
        Arc::clone(&namespaces),
        || Timestamp(0),
        &global::meter("nobody"),
        None,
    );
    let config = Config {
        socket: socket::Limits { frame_bytes: 1_024, fragments: 4, control_frames: 10 },
        outbox_bytes: 1 << 18,
        ping_after: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(8),
        write_timeout: Duration::from_secs(20),
        max_age: None,
        attaches_waiting: 100,
        connection_prefix: "test".into(),
        session: session::Config {
            node: "test".into(),
            commands: Rate { per_second: many, burst: many },
            bad_messages: 10,
            subscriptions: 128,
            auth_timeout: Duration::from_secs(60),
            heartbeat: Duration::from_secs(25),
            limits: frame::Limits {
                message_bytes: 1,
                subscriptions: 1,
                commands_per_second: 1,
                outbox_bytes: 1,
                snapshot_topics: 1,
            },
            namespaces,
            anonymous: auth.anonymous(),
        },
    };
    World {
        config: Arc::new(config),
        auth: Arc::new(auth),
        feeds,
        publisher: Arc::new(publisher),
        clock: Arc::new(|| Now { moment: Moment(0), wall: Timestamp(0) }),
        meters: Arc::new(Meters::new(&global::meter("nobody"), &Namespaces::default())),
    }
}

/// A door with room for a few.
fn door() -> Arc<Admission> {
    let many = NonZeroU32::new(1_000).unwrap();
    Admission::new(admission::Config {
        max_connections: 10,
        unauthenticated: 10,
        user_connections: 10,
        handshakes_per_second: many,
        handshakes_burst: many,
    })
}

/// Gives the Shard a socket that asks for these Topics; the other end, and where it is.
async fn adopt(shard: &Rc<RefCell<Shard>>, topics: &[&str]) -> (TcpStream, Key) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    SockRef::from(&socket).set_send_buffer_size(16 * 1_024).unwrap();
    socket.writable().await.unwrap();
    let wanted =
        |topic: &&str| Wanted { topic: (*topic).to_owned(), from: Ok(From::Live), max_hz: false };
    shard.borrow_mut().adopt(Takeover {
        socket,
        head: Bytes::from_static(b"head"),
        read: BytesMut::new(),
        pass: door().enter().unwrap(),
        handshake: Handshake {
            topics: topics.iter().map(wanted).collect(),
            ..Handshake::default()
        },
    });
    (client, Key { index: 0, serial: 1 })
}

/// Three Topics in one handshake while the directory takes nothing: each is answered, and nothing of
/// them is left.
#[tokio::test]
async fn each_attach_that_fails_at_once_is_answered() {
    let test = async {
        // Nobody reads at the other end.
        let (feeds, _) = Feeds::channel();
        let counts = Arc::new(Counts::default());
        let shard = Shard::new(ShardId(0), world(feeds), Arc::clone(&counts));
        let (mut client, _) = adopt(&shard, &["a", "b", "c"]).await;
        let mut got = String::new();
        while got.matches("overloaded").count() < 3 {
            let mut bytes = [0; 4_096];
            let read = timeout(Duration::from_secs(5), client.read(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("not all are answered: {got}"));
            got += &String::from_utf8_lossy(&bytes[..read.unwrap()]);
        }
        assert_eq!(counts.subscriptions.get(), 0);
        assert_eq!(counts.patterns.get(), 0);
        assert_eq!(shard.borrow().attaching, 0);
    };
    LocalSet::new().run_until(test).await;
}

/// A socket that stops taking bytes while its full Outbox is flushed is looked at when
/// `write_timeout` is over, not only at its next heartbeat.
#[tokio::test]
async fn a_socket_that_blocks_in_a_push_is_looked_at_in_time() {
    let test = async {
        let (feeds, _asks) = Feeds::channel();
        let shard = Shard::new(ShardId(0), world(feeds), Arc::default());
        let (_client, key) = adopt(&shard, &[]).await;
        let mut shard = shard.borrow_mut();
        let frame = Frame::encoded(Bytes::from(vec![0; 16 * 1_024]));
        while shard.get(key).unwrap().blocked.is_none() {
            shard.queue(key, &frame, Moment(0));
            assert!(shard.get(key).unwrap().goodbye.is_none(), "it overflowed");
        }
        let in_time = shard.wheel.slot(Moment(20_000));
        assert!(shard.get(key).unwrap().slot <= in_time);
    };
    LocalSet::new().run_until(test).await;
}

/// An Outbox that holds far more than the kernel takes for a socket: the next Frame overflows it.
fn stuff(shard: &mut Shard, key: Key) {
    let piece = Rc::new(Bytes::from(vec![b' '; 64 << 20]));
    let outbox = &mut shard.get(key).unwrap().outbox;
    outbox.push(&piece, usize::MAX).unwrap();
}

/// Whether this Connection has ended as too slow, and the table holds nothing.
fn is_let_go(shard: &mut Shard, key: Key) -> bool {
    shard.flush(key, Moment(0));
    let ended = shard.get(key).is_none_or(|one| one.goodbye.is_some());
    assert_eq!(shard.table.subscriptions(), 0);
    assert_eq!(shard.table.patterns(), 0);
    ended && shard.counts.slow_consumers.get() == 1
}

/// An Outbox that overflows on `connected`, while the attaches behind it are still to be carried
/// out: these are let go as well.
#[tokio::test]
async fn an_overflow_ahead_of_an_attach_leaves_nothing_behind() {
    let test = async {
        let (feeds, _asks) = Feeds::channel();
        let shard = Shard::new(ShardId(0), world(feeds), Arc::default());
        let (_client, key) = adopt(&shard, &[]).await;
        let mut shard = shard.borrow_mut();
        stuff(&mut shard, key);
        let text = r#"{"type":"subscribe","topics":[{"topic":"a"},{"topic":"b"}]}"#;
        shard.handle(key, Input::Command(json::decode(text)));
        assert!(is_let_go(&mut shard, key));
    };
    LocalSet::new().run_until(test).await;
}

/// An Outbox that overflows on `subscribed`, while the join behind it is still to be carried out:
/// the table does not keep the dead.
#[tokio::test]
async fn an_overflow_ahead_of_a_join_leaves_nothing_behind() {
    let test = async {
        let (feeds, _asks) = Feeds::channel();
        let shard = Shard::new(ShardId(0), world(feeds), Arc::default());
        let (_client, key) = adopt(&shard, &["a"]).await;
        let mut shard = shard.borrow_mut();
        stuff(&mut shard, key);
        let ticket = Ticket { connection: key.pack(), number: 1 };
        let replay = Replay::live(["a".parse().unwrap()].into(), Ok(()));
        shard.take(Event::Attached(ticket, Box::new(replay)));
        assert!(is_let_go(&mut shard, key));
    };
    LocalSet::new().run_until(test).await;
}

/// Who waits for room to attach waits in line once, however often it is flushed meanwhile, and asks
/// when there is room.
#[tokio::test]
async fn who_waits_for_room_waits_once() {
    let test = async {
        let (feeds, _asks) = Feeds::channel();
        let shard = Shard::new(ShardId(0), world(feeds), Arc::default());
        let (_client, key) = adopt(&shard, &["a"]).await;
        let mut shard = shard.borrow_mut();
        let (now, before) = (shard.now().moment, shard.attaching);
        shard.attaching = shard.world.config.attaches_waiting;
        let subscribe = json::decode(r#"{"type":"subscribe","topic":"b","from":"last"}"#);
        shard.handle(key, Input::Command(subscribe));
        for _ in 0..100 {
            shard.flush(key, now);
        }
        assert_eq!(shard.hungry, [key]);
        shard.attaching = before;
        while shard.work() {}
        assert!(shard.hungry.is_empty());
        assert_eq!(shard.attaching, before + 1);
    };
    LocalSet::new().run_until(test).await;
}

/// More than a stream's queue holds comes in one batch: HTTP has its turn before that counts as full,
/// and takes all of it.
#[tokio::test]
async fn a_burst_gives_streams_their_turn() {
    const BURST: usize = 1_000;
    let test = async {
        let (feeds, _asks) = Feeds::channel();
        let shard = Shard::new(ShardId(0), world(feeds), Arc::default());
        let world = shard.borrow().world.clone();
        let wanted = [Wanted { topic: "a.b".to_owned(), from: Ok(From::Live), max_hz: false }];
        let claims = world.auth.anonymous().unwrap();
        let namespaces = &world.config.session.namespaces;
        let streaming = Streaming::read(namespaces, claims, &wanted, None).unwrap();
        let pass = door().enter().unwrap();
        let opening = stream::Opening { format: Format::Lines, retry_ms: 1, pass, streaming };
        let stream = stream::Stream::new(&shard, opening).unwrap();

        let (events, inbox) = mpsc::channel(2 * BURST);
        let (_orders, orders) = mpsc::channel(1);
        let tasks = TaskTracker::new();
        let looping = tasks.spawn_local(run(Rc::clone(&shard), inbox, orders));
        let pattern = Pattern::parse("a.b").unwrap();
        let ticket = Ticket { connection: Key { index: 0, serial: 1 }.pack(), number: 1 };
        let replay = Box::new(Replay::live([pattern.clone()].into(), Ok(())));
        events.try_send(Event::Attached(ticket, replay)).unwrap();
        stream.begun().await.unwrap();
        let reading = tasks.spawn_local(async move {
            let mut lines = 0;
            while lines < BURST {
                let chunk = std::future::poll_fn(|cx| stream.poll_next(cx)).await.unwrap();
                assert!(chunk.len() <= 9 * 1_024);
                lines += chunk.iter().filter(|byte| **byte == b'\n').count();
            }
            stream
        });
        tokio::task::yield_now().await;
        let publication = Publication {
            topic: Topic::parse("a.b").unwrap(),
            id: "1".into(),
            time: Timestamp(0),
            user: None,
            payload: Bytes::from(vec![b'x'; 500]),
            trace: None,
        };
        let envelope = Arc::new(Envelope::new(&publication, None));
        for _ in 0..BURST {
            let source = Source::Pattern(pattern.clone());
            events.try_send(Event::Live(source, Arc::clone(&envelope), None)).unwrap();
        }
        drop(reading.await.unwrap());
        assert_eq!(shard.borrow().counts.slow_consumers.get(), 0);
        assert_eq!(shard.borrow().connections.len(), 0);
        looping.abort();
    };
    timeout(Duration::from_secs(10), LocalSet::new().run_until(test)).await.unwrap();
}
