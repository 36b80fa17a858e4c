/** The secret of the installation cannot be read or made. The message is a sentence for the operator. */
export class SecretError extends Error {
  override name = 'SecretError'
  readonly code = 'data_folder_unusable'
}
