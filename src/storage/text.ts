/**
 * Whether PostgreSQL can hold a string as it is: its text has no U+0000, and half of a surrogate
 * pair would become U+FFFD on the way. A request may carry both. What cannot be held is not found;
 * asking would be an error of the statement, or find something else.
 */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}
