//! async-memcached stores a value under `é` and cannot read it back.
//! Rules: keys::all_operations_agree, keys::any_script_is_kept, keys::case_is_kept,
//! keys::control_characters_are_kept, keys::unicode_forms_are_kept, keys::inner_space_is_kept,
//! keys::numbers_are_text, keys::surrounding_space_is_kept,
//! multi::an_invalid_key_fails_alone_in_delete_multi, multi::invalid_keys_alone_are_the_cause,
//! multi::an_invalid_key_fails_alone_in_get_multi, multi::encoded_keys_keep_their_places,
//! multi::an_invalid_key_fails_alone_in_set_multi, keys::encoded_keys_do_not_collide,
//! metadata::every_value_has_its_metadata, expiry::every_value_expires.
//! Argument: the address of a memcached, `127.0.0.1:11211`.

use async_memcached::{AsciiProtocol, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memcached = std::env::args().nth(1).ok_or("needs an address")?;
    let mut client = Client::new(format!("tcp://{memcached}")).await?;
    client.set("é", "value", None, None).await?;
    println!("{:?}", client.get("é").await);
    Ok(())
}
