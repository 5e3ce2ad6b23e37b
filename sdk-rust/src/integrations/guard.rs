//! What `init` returns: it flushes when it goes, and when the program panics.

use std::time::Duration;

use crate::client::Client;

/// How long a guard, or a panic, waits for the last logs.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Keeps the client of an `init` going; flushes for up to 1 s when it goes.
#[derive(Debug)]
#[must_use = "the logs stop when the guard goes"]
pub struct Guard {
    client: Client,
}

impl Guard {
    /// From now on a panic flushes, too.
    pub(crate) fn new(client: Client) -> Self {
        let (for_panics, before) = (client.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            // The program's own hook first: should the flush hang, the panic is told all the same.
            before(panic);
            for_panics.flush(LAST_WORDS);
        }));
        Self { client }
    }

    /// The client, to flush or to read its counts.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.client.shutdown(LAST_WORDS);
    }
}
