export type StorageErrorCode =
  | 'audit_id_unsafe'
  | 'database_missing'
  | 'database_unreachable'
  | 'database_unusable'
  | 'data_folder_unusable'
  | 'data_folder_in_use'
  | 'schema_newer'
  | 'schema_older'
  | 'secret_mismatch'
  | 'key_unreadable'

/** Storage cannot be used as it was configured. The message is a sentence for the operator. */
export class StorageError extends Error {
  override name = 'StorageError'
  readonly code: StorageErrorCode

  constructor(code: StorageErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
