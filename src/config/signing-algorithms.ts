/** The algorithms that tokens can be signed with. ES256 is the default. */
export const signingAlgorithms = ['ES256', 'EdDSA', 'RS256', 'PS256'] as const

export type SigningAlgorithm = (typeof signingAlgorithms)[number]
