export const PASSWORD = 'a password for tests'

/** The least that argon2 accepts: the suite tests us, not the hash. */
export const CHEAP = { memoryCost: 8, timeCost: 1, parallelism: 1 }
