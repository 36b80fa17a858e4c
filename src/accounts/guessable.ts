/**
 * Passwords that a guesser tries first (NIST SP 800-63B-4 section 3.1.1.2): common and leaked ones,
 * and what is made of them, of keys beside each other, or of the person's own name. Nothing is asked
 * of the network.
 */

/** A password that is found with so many guesses is rejected. */
const fewGuesses = 1e8

/** Characters that are looked at: the time that it takes grows with the square of them. */
const mostCharacters = 40

/** Its dictionaries are megabytes, of use to whoever sets a password, and to no other process. */ // prose: allow
let estimating: Promise<(password: string, about: string[]) => number> | undefined

async function load() {
  const [{ ZxcvbnFactory }, { adjacencyGraphs, dictionary }] = await Promise.all([
    import('@zxcvbn-ts/core'),
    import('@zxcvbn-ts/language-common'),
  ])
  const zxcvbn = new ZxcvbnFactory({
    dictionary,
    graphs: adjacencyGraphs,
    maxLength: mostCharacters,
  })
  return (password: string, about: string[]) => zxcvbn.check(password, about).guesses
}

/**
 * Whether a password is among the first that a guesser tries.
 *
 * @param about what is known of the person.
 */
export async function isGuessable(password: string, about: readonly string[]): Promise<boolean> {
  estimating ??= load()
  const guesses = (await estimating)(password, ['holdfast', ...about])
  return guesses < fewGuesses
}
