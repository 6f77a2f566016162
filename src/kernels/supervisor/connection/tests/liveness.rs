//! Who is there and who is not: pings, silence, floods, and lines that take nothing.

use super::*;

#[test]
fn pongs_keep_a_line_alive_on_which_nobody_acknowledges() {
    run_paused(async {
        let broker = running();
        let mut client = connect_companion(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        publish(&broker, "one");
        let first = ping(&mut client).await;
        send(&mut client, 0xa, &first).await;
        for _ in 0..10 {
            let since = Instant::now();
            let payload = ping(&mut client).await;
            assert!(since.elapsed() <= Duration::from_secs(25), "{since:?}");
            assert_eq!(payload, first);
            send(&mut client, 0xa, &payload).await;
        }
        assert_eq!(broker.snapshot().connections, 1);
    });
}

#[test]
fn a_silent_client_is_pinged_within_25_seconds_for_as_long_as_it_answers() {
    run_paused(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        for _ in 0..10 {
            let since = Instant::now();
            let payload = ping(&mut client).await;
            assert!(since.elapsed() <= Duration::from_secs(25), "{since:?}");
            send(&mut client, 0xa, &payload).await;
        }
        assert_eq!(broker.snapshot().connections, 1);
    });
}

#[test]
fn a_client_that_waits_for_the_disk_is_pinged_and_can_be_replaced() {
    run_paused(async {
        let broker = running_with(Box::new(FarJournal::stuck(1 << 20)));
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        publish(&broker, "never brought");
        for _ in 0..10 {
            let since = Instant::now();
            let payload = ping(&mut client).await;
            assert!(since.elapsed() <= Duration::from_secs(25), "{since:?}");
            send(&mut client, 0xa, &payload).await;
        }
        let _newer = connect(&broker, "a");
        assert_eq!(close_code(&mut client).await, 4000);
    });
}

#[test]
fn a_client_that_answers_no_ping_is_given_up_and_its_session_kept() {
    run_paused(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        let since = Instant::now();
        assert_eq!(close_code(&mut client).await, 4408);
        let silent = since.elapsed().as_secs();
        assert!((40..=75).contains(&silent), "{silent} s");
        while client.read(&mut [0]).await.unwrap() > 0 {}
        let snapshot = broker.snapshot();
        assert_eq!((snapshot.connections, snapshot.away), (0, 1));
    });
}

/// Whoever never stops talking is written to all the same, and no longer than it may be there.
#[test]
fn a_client_that_floods_its_line_keeps_neither_clocks_nor_writer_from_their_turn() {
    run(async {
        // Each fifteen of these are a ping.
        let flood = tokio::io::repeat(0x89);
        let (near, mut client) = duplex(PIPE_BYTES);
        let client_of = Client {
            session: "a".into(),
            holder: Holder {
                identity: "me".into(),
                credential: "1".into(),
            },
            framing: Framing::V1,
            text_only: false,
            unnamed: false,
            acknowledges: Acknowledges::default(),
            resumes: false,
            expires_in: Some(Duration::from_millis(50)),
        };
        let broker = running();
        let (served, common) = (broker.clone(), common());
        let serving = tokio::task::spawn_local(async move {
            serve(flood, near, Bytes::new(), client_of, served, &common).await;
        });
        assert_eq!(told(&mut client).await, "idle");
        assert_eq!(close_code(&mut client).await, 4401);
        serving.abort();
    });
}

/// Everything is written before the end of the kernel closes a line, but not for ever.
#[test]
fn a_client_that_takes_nothing_is_given_up_though_its_kernel_is_dead() {
    run_paused(async {
        let broker = running();
        let mut client = connect(&broker, "a");
        assert_eq!(told(&mut client).await, "idle");
        publish(&broker, &"x".repeat(2 * PIPE_BYTES));
        broker.close_epoch(Phase::Dead("gone".to_owned()), "KernelDied", "gone");
        while broker.snapshot().connections > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        drop(client);
    });
}
