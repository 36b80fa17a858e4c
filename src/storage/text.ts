/**
 * Whether PostgreSQL can hold a string: its text has no U+0000, and a request may carry one.
 * A string that it cannot hold is not found; asking would be an error of the statement.
 */
export function isStorable(text: string): boolean {
  return !text.includes('\0')
}
