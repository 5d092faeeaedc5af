pub fn load_for_ever(_: &[String]) {}
