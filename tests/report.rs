//! The report end to end, on results made up for the purpose.

mod report_fixture;

use report_fixture::quickstart;
use tickets::report::render;

#[test]
#[expect(clippy::disallowed_methods, reason = "pictures to look at are not results")]
fn pictures_for_the_eye() {
    let Ok(dir) = std::env::var("TICKETS_PICTURES") else { return };
    for (path, bytes) in render(&quickstart()).expect("a report") {
        let path = std::path::Path::new(&dir).join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
}
