//! OpenDAL on memcached: a key of more than 65,535 bytes is truncated, which overwrites others.
//! Rules: keys::long_keys_are_not_truncated. Values overwritten in this way also break
//! errors::a_refused_key_is_not_transient, errors::keys_do_not_break_lines,
//! errors::long_keys_are_shortened, errors::payloads_are_not_shown,
//! errors::the_backend_and_the_reason_are_named, errors::the_refused_key_is_named.
//! Argument: the address of a memcached, `127.0.0.1:11211`.

use opendal::{Operator, services::Memcached};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memcached = std::env::args().nth(1).ok_or("needs an address")?;
    let service = Memcached::default().endpoint(&format!("tcp://{memcached}"));
    let operator = Operator::new(service)?;
    operator.write("kk", "value of kk").await?;
    let long = "k".repeat(65538);
    println!("{:?}", operator.write(&long, "value of the long key").await);
    let found = operator.read("kk").await?.to_vec();
    println!("kk has {} bytes", found.len());
    println!("and ends in {:?}", String::from_utf8(found)?.get(65530..));
    Ok(())
}
