//! [`Blocking`], for programs that are not async.

use std::process;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::{CacheBackend, CachedValue, Error, ErrorKind, Result};

const NAME: &str = "Blocking";

/// The six operations for programs that are not async. Each call blocks its thread until the
/// operation has ended.
///
/// The backend runs on its own Tokio runtime with one worker thread, which clones share. A call
/// from within another runtime also works, but it starts a thread and blocks a worker of that
/// runtime: use the backend itself there. The runtime ends when the last clone is dropped or
/// [unwrapped](Self::into_inner), and with it the tasks and connections of the backend.
///
/// A task that the backend itself spawns must not call it: the call would block the only worker
/// thread, which it waits for.
///
/// Threads do not survive a `fork`, so in the child process every call returns
/// [`ErrorKind::Backend`]: create a new backend there.
///
/// # Panics
///
/// A panic in the backend is propagated to the caller.
///
/// ```
/// use cache_core::{Blocking, CachedValue};
/// # use cache_core::{CacheBackend, Result};
/// # use std::sync::Mutex;
/// # #[derive(Default)]
/// # struct Memory(Mutex<Option<CachedValue<String>>>);
/// # impl CacheBackend for Memory {
/// #   type Value = String;
/// #   async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> { Ok(self.0.lock().unwrap().clone()) }
/// #   async fn set(&self, _: &str, value: CachedValue<String>) -> Result<()> { *self.0.lock().unwrap() = Some(value); Ok(()) }
/// #   async fn delete(&self, _: &str) -> Result<()> { Ok(()) }
/// # }
///
/// let cache = Blocking::new(Memory::default())?;
/// cache.set("key", CachedValue::new("value".into()))?;
/// assert!(cache.get("key")?.is_some());
/// # Ok::<(), cache_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Blocking<B> {
    backend: B,
    runtime: Arc<OwnRuntime>,
}

impl<B: CacheBackend> Blocking<B> {
    /// Starts a runtime for `backend`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`] if the system refuses the thread or the I/O resources of the
    /// runtime, for example because the process has too many open files.
    pub fn new(backend: B) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("cache-blocking");
        let runtime = builder.enable_all().build().map_err(|error| {
            let message = format!("cannot start a runtime: {error}");
            Error::new(ErrorKind::Backend, NAME, message).with_source(error)
        })?;
        Ok(Self {
            backend,
            runtime: Arc::new(OwnRuntime {
                runtime: Some(runtime),
                process: process::id(),
            }),
        })
    }

    /// See [`CacheBackend::get`].
    pub fn get(&self, key: &str) -> Result<Option<CachedValue<B::Value>>> {
        self.runtime.block_on(self.backend.get(key))?
    }

    /// See [`CacheBackend::set`].
    pub fn set(&self, key: &str, value: CachedValue<B::Value>) -> Result<()> {
        self.runtime.block_on(self.backend.set(key, value))?
    }

    /// See [`CacheBackend::delete`].
    pub fn delete(&self, key: &str) -> Result<()> {
        self.runtime.block_on(self.backend.delete(key))?
    }

    /// See [`CacheBackend::get_multi`].
    pub fn get_multi(&self, keys: &[&str]) -> Vec<Result<Option<CachedValue<B::Value>>>> {
        match self.runtime.block_on(self.backend.get_multi(keys)) {
            Ok(found) => found,
            Err(error) => {
                let failed = |key: &&str| Err(error.clone().with_key(*key));
                keys.iter().map(failed).collect()
            }
        }
    }

    /// See [`CacheBackend::set_multi`].
    pub fn set_multi(&self, entries: Vec<(&str, CachedValue<B::Value>)>) -> Result<()> {
        self.runtime.block_on(self.backend.set_multi(entries))?
    }

    /// See [`CacheBackend::delete_multi`].
    pub fn delete_multi(&self, keys: &[&str]) -> Result<()> {
        self.runtime.block_on(self.backend.delete_multi(keys))?
    }
}

crate::wrapper::access!(Blocking<B>);

#[derive(Debug)]
struct OwnRuntime {
    runtime: Option<Runtime>,
    /// The process in which its threads run.
    process: u32,
}

impl OwnRuntime {
    fn block_on<F>(&self, operation: F) -> Result<F::Output>
    where
        F: Future<Output: Send> + Send,
    {
        let failed = |message: &str| Error::new(ErrorKind::Backend, NAME, message);
        if self.process != process::id() {
            return Err(failed(
                "this process was forked after the cache was created, and threads do not survive \
                 a fork; create a new backend after the fork",
            ));
        }
        let runtime = self.runtime.as_ref();
        let runtime = runtime.ok_or_else(|| failed("the runtime is shutting down"))?;
        if Handle::try_current().is_err_and(|error| error.is_missing_context()) {
            return Ok(runtime.block_on(operation));
        }
        // Tokio panics when a thread of one runtime blocks on another, and when a thread that is
        // ending, in the destructor of a thread-local variable, blocks on any.
        thread::scope(|scope| {
            let waiting = thread::Builder::new()
                .name("cache-blocking-call".into())
                .spawn_scoped(scope, || runtime.block_on(operation))
                .map_err(|error| {
                    failed(&format!("cannot start a thread: {error}")).with_source(error)
                })?;
            match waiting.join() {
                Ok(output) => Ok(output),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which panics within another runtime.
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        if self.process == process::id() {
            runtime.shutdown_background();
        } else {
            // Its locks may be held by threads that this process does not have.
            std::mem::forget(runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_gets_an_error() {
        let runtime = |process| OwnRuntime {
            runtime: Builder::new_current_thread().build().ok(),
            process,
        };
        assert!(runtime(process::id()).block_on(async {}).is_ok());
        let error = runtime(0).block_on(async {}).expect_err("another process");
        assert!(error.message().contains("after the fork"), "{error}");
    }
}
