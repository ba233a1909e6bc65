//! OpenDAL on memcached: a call that is dropped leaves its answer to the next call.
//! Rules: cancellation::get_may_be_dropped, cancellation::set_may_be_dropped,
//! cancellation::delete_may_be_dropped, faults::late_responses_reach_no_other_caller.
//! Argument: the address of a memcached, `127.0.0.1:11211`.

use std::time::Duration;

use opendal::{Operator, services::Memcached};
use tokio::time::timeout;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memcached = std::env::args().nth(1).ok_or("needs an address")?;
    let service = Memcached::default().endpoint(&format!("tcp://{memcached}"));
    let operator = Operator::new(service)?;
    operator.write("b", "value of b").await?;
    for millis in (0..100).step_by(3) {
        let limit = Duration::from_millis(millis);
        let _dropped = timeout(limit, operator.read("a")).await;
        let _dropped = timeout(limit, operator.write("a", "value of a")).await;
        let _dropped = timeout(limit, operator.delete("c")).await;
        let found = timeout(Duration::from_secs(5), operator.read("b")).await;
        println!("dropped after {limit:?}, then b: {found:?}");
    }
    Ok(())
}
