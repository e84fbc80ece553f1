"""Where the mitotic figures of a slide are, from whatever a laboratory's tools write: one reader a kind."""
