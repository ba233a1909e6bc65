//! OpenDAL on memcached: a read that is dropped leaves its answer to the next call.
//! Rule: cancellation::get_may_be_dropped. Argument: the address of a memcached, `127.0.0.1:11211`.

use std::time::Duration;

use opendal::{Operator, services::Memcached};
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memcached = std::env::args().nth(1).ok_or("needs an address")?;
    let service = Memcached::default().endpoint(&format!("tcp://{memcached}"));
    let operator = Operator::new(service)?;
    operator.write("a", "value of a").await?;
    operator.write("b", "value of b").await?;
    for millis in (0..100).step_by(3) {
        let dropped = timeout(Duration::from_millis(millis), operator.read("a")).await;
        let found = timeout(Duration::from_secs(5), operator.read("b")).await;
        println!("{millis} ms, done: {}; then b: {found:?}", dropped.is_ok());
    }
    Ok(())
}
