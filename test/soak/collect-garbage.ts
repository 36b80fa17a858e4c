// Loaded into the nodes of a soak: what they hold is measured when they hold no garbage.
process.on('SIGUSR2', () => globalThis.gc?.())
