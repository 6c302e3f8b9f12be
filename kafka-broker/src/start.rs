//! The start of a broker on a machine that may never have had one.

use std::fs;
use std::path::Path;

use crate::broker::Broker;
use crate::error::StartError;
use crate::java::{Archive, Java};
use crate::options::Options;
use crate::{jars, java, once};

impl Broker {
    /// Starts a broker without topics and waits until it serves, which takes a few seconds. The very first one on a
    /// machine also has to wait for its jars and for an archive of their classes.
    ///
    /// # Errors
    ///
    /// [`StartError::Unavailable`] where no broker can run, [`StartError::Failed`] when this one didn't.
    pub fn start(options: Options) -> Result<Self, StartError> {
        Self::launch(&options, &find_java()?)
    }
}

/// Java, Kafka's jars, and the archive of their classes; the jars are fetched and the archive is made unless they are
/// there.
///
/// Java reads the classes of an archive as they are laid out in memory. A broker that starts with one takes half of the
/// processor's time.
pub(crate) fn find_java() -> Result<Java, StartError> {
    let version = java::check()?;
    let jars = jars::find()?;
    // An archive is good for one build of Java and for these jars. Java ignores one of others.
    let archive = jars.with_added_extension(format!("java-{version}.jsa"));
    let java = Java::new(jars);
    let made = once::make(&archive, Path::exists, |made| {
        once::say("making an archive of Kafka's classes, once; this takes some seconds");
        let broker = Broker::launch(&Options::new(), &java.clone().with_archive(Archive::Write(made.to_owned())))?;
        broker.finish().map_err(StartError::system("to end in order"))?;
        match made.exists() {
            true => Ok(()),
            // A Java that writes none is not asked again. It ignores an empty one.
            false => fs::write(made, []).map_err(StartError::system("a file for its classes")),
        }
    });
    match made {
        Ok(()) => Ok(java.with_archive(Archive::Read(archive))),
        // Where no file can be written, a start only takes longer.
        Err(StartError::System { .. }) => Ok(java),
        Err(error) => Err(error),
    }
}
