/** Signatures that proofs and client assertions may carry: asymmetric ones only. */
export const proofAlgorithms = ['ES256', 'EdDSA', 'Ed25519', 'RS256', 'PS256'] as const
