/** Freezes a JSON value all the way down: cached claims are shared between requests. */
export function deepFreeze<T>(value: T): T {
  const rest: unknown[] = [value]
  while (rest.length > 0) {
    const each = rest.pop()
    if (typeof each !== 'object' || each === null) continue
    Object.freeze(each)
    for (const member of Object.values(each)) rest.push(member)
  }
  return value
}
