//! `logweir policy`: when nobody wants to know, what explains what, and how often people are
//! reminded.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use logweir_alerting::yaml::parse_policy;
use logweir_incident::policy::Policy;
use logweir_proto::v1;

use super::rules::refused;
use crate::{
    client::ServerArgs,
    error::{Error, Exit},
    output::{Output, OutputArgs},
};

/// Arguments of `logweir policy`.
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the policy, as a file that can be changed and stored again
    Show,
    /// Store the policy of a YAML file in place of the one before; what the file leaves out goes
    /// back to its default
    Put {
        /// The file
        file: PathBuf,
    },
}

impl PolicyArgs {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Exit> {
        let mut output = Output::new(&self.output);
        let definition = match self.action {
            Action::Show => {
                let mut client = self.server.alerts().await?;
                let answer = client.get_notification_policy(v1::GetNotificationPolicyRequest {});
                answer.await.map_err(Error::from)?.into_inner().definition
            }
            Action::Put { file } => {
                let definition = serde_json::to_string(&read(&file)?)?;
                let mut client = self.server.alerts().await?;
                let request = v1::PutNotificationPolicyRequest { definition };
                let answer = client.put_notification_policy(request);
                answer.await.map_err(Error::from)?.into_inner().definition
            }
        };
        // Shown as the server has it, with the defaults that the file left out.
        let policy: Policy = serde_json::from_str(&definition)?;
        if output.json {
            output.object(&policy)?;
        } else {
            let text = serde_saphyr::to_string(&policy)?;
            text.lines().try_for_each(|line| output.line(line))?;
        }
        output.flush()?;
        Ok(Exit::Done)
    }
}

fn read(path: &PathBuf) -> Result<Policy, Error> {
    let failed = |source| Error::File { action: "read", path: path.clone(), source };
    let content = fs::read_to_string(path).map_err(failed)?;
    parse_policy(&path.display().to_string(), &content).map_err(|mistakes| refused(&mistakes))
}
