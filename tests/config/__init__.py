"""The configuration: tables, mistakes, packs, cross rules, and what comes of them."""
