//! Memory of processes that mostly wait: a shim lives as long as its container, and there are many of them.

/// Gives back what the process has used and waiting doesn't need.
pub fn give_back() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    let mut file: Option<(usize, usize)> = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some(range), Some(flags)) if flags.len() == 4 && range.contains('-') => {
                let backed = fields.nth(3).is_some_and(|path| path.starts_with('/'));
                let read_only = flags.starts_with('r') && !flags.contains('w');
                let ends = range.split_once('-').and_then(|(from, to)| {
                    Some((
                        usize::from_str_radix(from, 16).ok()?,
                        usize::from_str_radix(to, 16).ok()?,
                    ))
                });
                file = ends.filter(|_| backed && read_only);
            }
            // Nothing of it is this process's own: the file has it all.
            (Some("Anonymous:"), Some("0")) => {
                if let Some((from, to)) = file.take() {
                    // SAFETY: a read-only mapping of a file without a page of our own in it; what is dropped is
                    // read again from the file when it is used.
                    unsafe {
                        libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_DONTNEED)
                    };
                }
            }
            (Some("Anonymous:"), _) => file = None,
            _ => {}
        }
    }
    // SAFETY: gives free memory of the heap back; nothing in use moves.
    unsafe { libc::malloc_trim(0) };
}
