/** The three parts of a JWS in compact serialisation, still encoded, and what was signed. */
export type CompactJws = Readonly<{
  header: string
  payload: string
  signature: string
  signingInput: string
}>

/** Splits `header.payload.signature`; anything but two dots between non-empty parts is `undefined`. */
export function splitCompactJws(jwt: string): CompactJws | undefined {
  const first = jwt.indexOf('.')
  const second = jwt.indexOf('.', first + 1)
  if (first < 1 || second <= first + 1 || second === jwt.length - 1) return undefined
  if (jwt.indexOf('.', second + 1) !== -1) return undefined
  return {
    header: jwt.slice(0, first),
    payload: jwt.slice(first + 1, second),
    signature: jwt.slice(second + 1),
    signingInput: jwt.slice(0, second),
  }
}
