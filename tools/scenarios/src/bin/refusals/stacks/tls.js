// A TLS client or server of Node: tls.js client|server key=value…, as tls.py.
'use strict';
const fs = require('fs');
const tls = require('tls');

const role = process.argv[2];
const options = Object.fromEntries(process.argv.slice(3).map((argument) => {
  const [, key, value] = argument.match(/^(\w+)=(.*)$/s);
  return [key, value];
}));
const port = Number(options.port);
const version = { '1.2': 'TLSv1.2', '1.3': 'TLSv1.3' }[options.version];
const read = (name) => (options[name] ? fs.readFileSync(options[name]) : undefined);
const settings = {
  cert: read('cert'),
  key: read('key'),
  ca: read('ca'),
  minVersion: version,
  maxVersion: version,
  rejectUnauthorized: 'ca' in options,
  ALPNProtocols: options.alpn ? options.alpn.split(',') : undefined,
};

function request() {
  const stream = tls.connect({ ...settings, host: '127.0.0.1', port, servername: options.name }, () => {
    stream.write('GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n');
  });
  stream.on('data', (data) => console.log(data.toString().split('\r\n')[0]));
  stream.on('error', (error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}

function serve() {
  const server = tls.createServer({ ...settings, requestCert: 'ca' in options }, (stream) => {
    stream.on('error', () => {});
    stream.once('data', () => {
      stream.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok');
    });
  });
  server.on('tlsClientError', (error) => console.error(error.message));
  server.listen(port, '127.0.0.1');
}

({ client: request, server: serve })[role]();
