//! The steps of a call to a destination, each with its outcome and how long it took, for whoever
//! asks why a channel does not work.

use std::time::Instant;

use logweir_incident::job::TestStep;

/// The steps of a call so far.
#[derive(Debug, Default)]
pub struct CallSteps(Vec<TestStep>);

impl CallSteps {
    /// Notes a step that began at `since`.
    pub fn note<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        since: Instant,
        outcome: Result<(T, String), E>,
    ) -> Result<T, E> {
        let (name, took) = (name.to_owned(), since.elapsed());
        match outcome {
            Ok((value, detail)) => {
                self.0.push(TestStep { name, succeeded: true, detail, took });
                Ok(value)
            }
            Err(error) => {
                let detail = error.to_string();
                self.0.push(TestStep { name, succeeded: false, detail, took });
                Err(error)
            }
        }
    }

    /// The steps, in the order in which they were made.
    pub fn into_vec(self) -> Vec<TestStep> {
        self.0
    }
}
