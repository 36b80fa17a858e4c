/** A file of certificates cannot be used. The message is a sentence for the operator. */
export class CertificateFileError extends Error {
  override name = 'CertificateFileError'
}
