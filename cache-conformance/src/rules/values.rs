//! A payload is returned as it was set.

use crate::context::{Cache, Context, Outcome};
use crate::rule::{Rule, rules};

use super::source::VALUES;
use super::tasks::interleaved;

rules! {
    ($) values, __rules_of_values, VALUES, Rule::as_listed;

    the_empty_payload_is_a_hit: "An empty payload is a hit, not a miss.";
    every_byte_is_kept: "Payloads may hold any byte, and any pair of bytes, text or not.";
    ends_are_not_trimmed:
        "White space, line ends and zero bytes at either end of a payload are kept.";
    protocol_words_are_kept: "Payloads that look like a server's response are payloads.";
    envelopes_are_kept: "Payloads that look like stored metadata, JSON, or a pickle are payloads.";
    every_length_is_kept: "Payloads of all lengths around powers of two are kept.";
    large_payloads_are_kept:
        "Payloads of megabytes, or of the declared size, are kept, by single and multi operations.";
    sizes_around_usual_limits_are_kept:
        "Payloads just below, at and above powers of two and the usual limits of stores are kept.";
    a_shorter_payload_leaves_nothing_behind:
        "A payload that replaces a longer or a shorter one is stored in full.";
}

/// Each payload is kept, in single and multi operations.
async fn are_kept(context: &Context, payloads: &[Vec<u8>]) -> Outcome {
    let cache = context.open().await?;
    for some in payloads.chunks(context.within_capacity(payloads.len()).max(1)) {
        some_are_kept(context, &cache, some).await?;
    }
    Ok(())
}

async fn some_are_kept(context: &Context, cache: &Cache, payloads: &[Vec<u8>]) -> Outcome {
    let keys = context.keys(payloads.len());
    let pairs: Vec<_> = keys.iter().zip(payloads).collect();
    // In groups, because a server may be far away.
    for pairs in pairs.chunks(16) {
        let round_trips = pairs.iter().map(|(key, payload)| async move {
            cache.put(key, payload.as_slice()).await?;
            cache.hit(key, payload).await?;
            Ok(())
        });
        interleaved(round_trips).await?;
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected: Vec<Option<&[u8]>> = payloads.iter().map(|p| Some(p.as_slice())).collect();
    cache.answers(&keys, &expected).await?;
    cache.delete_multi(&keys).await?;
    let entries: Vec<(&str, &[u8])> = keys
        .iter()
        .zip(payloads)
        .map(|(key, payload)| (*key, payload.as_slice()))
        .collect();
    cache.put_multi(&entries).await?;
    for entries in entries.chunks(16) {
        let hits = entries.iter().map(|(key, payload)| async move {
            cache.hit(key, payload).await?;
            Ok(())
        });
        interleaved(hits).await?;
    }
    Ok(())
}

async fn texts_are_kept(context: &Context, texts: &[&[u8]]) -> Outcome {
    let payloads: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
    are_kept(context, &payloads).await
}

async fn the_empty_payload_is_a_hit(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (key, other) = (context.key("k"), context.key("other"));
    cache.put(&key, "").await?;
    cache.hit(&key, "").await?;
    cache.put(&key, "full").await?;
    cache.put(&key, "").await?;
    cache.hit(&key, "").await?;
    cache.answers(&[&other, &key], &[None, Some(b"")]).await?;
    cache.put_multi(&[(&other, b""), (&key, b"full")]).await?;
    cache.hit(&other, "").await?;
    Ok(())
}

async fn every_byte_is_kept(context: Context) -> Outcome {
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let reversed: Vec<u8> = all.iter().rev().copied().collect();
    let pairs: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_be_bytes).collect();
    let mut payloads = vec![all.clone(), reversed, context.rng().bytes(1000)];
    let largest = context.capabilities().large_value();
    payloads.extend(pairs.chunks(largest).map(<[u8]>::to_vec));
    payloads.extend(all.iter().map(|byte| vec![*byte]));
    are_kept(&context, &payloads).await
}

async fn ends_are_not_trimmed(context: Context) -> Outcome {
    texts_are_kept(
        &context,
        &[
            b" ",
            b"  a  ",
            b"\n",
            b"a\n",
            b"\na",
            b"\r\n",
            b"a\r\n",
            b"\r\na",
            b"a\r",
            b"\t",
            b"\0",
            b"\0\0",
            b"a\0",
            b"\0a",
            b"a\0\0\0",
            b"\xef\xbb\xbfa",
            b"\xff\xfe",
            b"a\x1a",
            b"\"a\"",
        ],
    )
    .await
}

async fn protocol_words_are_kept(context: Context) -> Outcome {
    texts_are_kept(
        &context,
        &[
            b"END\r\n",
            b"\r\nEND\r\n",
            b"EN\r\n",
            b"STORED\r\n",
            b"ERROR\r\n",
            b"SERVER_ERROR x\r\n",
            b"VALUE k 0 1\r\na\r\nEND\r\n",
            b"HD\r\n",
            b"VA 1\r\na\r\n",
            b"MN\r\n",
            b"quit\r\n",
            b"$-1\r\n",
            b"NOT_FOUND",
            b"null",
            b"None",
            b"nil",
            b"0",
            b"-1",
            b"true",
        ],
    )
    .await
}

async fn envelopes_are_kept(context: Context) -> Outcome {
    texts_are_kept(
        &context,
        &[
            b"|",
            b"||",
            b"|a",
            b"a|b",
            b"{}|",
            b"{\"ct\": 1.5, \"v\": 2}|",
            b"{\"ct\": 1.5, \"v\": 2}|a",
            b"{\"ct\": 1.5, \"v\": 2, \"exp\": 2.5}|a",
            b"{\"exp\": 1}",
            b"{",
            b"}",
            b"\"",
            b"\\",
            b"[]",
            b"[1, {\"ct\": 1.5, \"v\": 2}]",
            b"\x80\x04K\x01.",
            b"\x80\x05}\x94.",
            b"\x1f\x8b\x08",
            b"\x28\xb5\x2f\xfd",
            b"x\x9c",
            b"x\x01",
            b"BZh91AY",
            b"\x04\x22\x4d\x18",
            b"\xfd7zXZ\x00",
            b"\xff\x06\x00\x00sNaPpY",
            b"\x80\x02}q\x00.",
            b"(dp0\n.",
            b"cposix\nsystem\n",
            b"\xac\xed\x00\x05",
            b"a:1:{i:0;i:1;}",
            b"\x04\x08I\"",
        ],
    )
    .await
}

async fn every_length_is_kept(context: Context) -> Outcome {
    let mut lengths: Vec<usize> = (0..=17).map(|power| 1 << power).collect();
    lengths.extend([10, 100, 1000, 10_000, 1448, 16_384 - 5]);
    lengths.retain(|length| *length < context.capabilities().large_value());
    let payloads: Vec<Vec<u8>> = lengths
        .iter()
        .flat_map(|length| [length - 1, *length, length + 1])
        .map(|length| context.rng().bytes(length))
        .collect();
    are_kept(&context, &payloads).await
}

async fn large_payloads_are_kept(context: Context) -> Outcome {
    const LARGEST: usize = 4 * 1024 * 1024 + 1;
    let len = context
        .capabilities()
        .max_value
        .map_or(LARGEST, |max| max.min(LARGEST));
    let payloads = [len, len / 2, len / 3].map(|len| context.rng().bytes(len));
    are_kept(&context, &payloads).await
}

async fn sizes_around_usual_limits_are_kept(context: Context) -> Outcome {
    let largest = context.capabilities().max_value.unwrap_or(usize::MAX);
    // Limits of memcached, gRPC messages and file blocks, and powers of two.
    let limits = [
        1 << 18,
        500_000,
        1 << 19,
        1_000_000,
        1_000_000 - 50,
        1 << 20,
        (1 << 20) - 48,
        1_500_000,
        3 << 19,
    ];
    for limit in limits.into_iter().filter(|limit| *limit < largest) {
        let payloads = [limit - 1, limit, limit + 1].map(|len| context.rng().bytes(len));
        are_kept(&context, &payloads).await?;
    }
    Ok(())
}

async fn a_shorter_payload_leaves_nothing_behind(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    for len in [1000, 10, 0, 1, 65_000, 64, 1001, 999] {
        let len = context.capabilities().large_value().min(len);
        let payload = context.rng().bytes(len);
        cache.put(&key, payload.clone()).await?;
        cache.hit(&key, payload).await?;
    }
    Ok(())
}
