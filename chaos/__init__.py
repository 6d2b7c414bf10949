"""Weather, stories and promises: the incidents replayed against the running gateway."""
