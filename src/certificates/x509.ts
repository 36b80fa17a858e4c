// @peculiar/x509 expects that its importer has imported this first.
import 'reflect-metadata'

export * from '@peculiar/x509'
