// Applications and an SMS centre made with node smpp: `customer PORT` binds two applications to a centre, one sends the
// lines of the standard input to the other; `centre PORT` is a centre that sends its lines to who binds.
'use strict';
const smpp = require('smpp');

const [mode, port] = process.argv.slice(2);
const texts = require('fs').readFileSync(0, 'utf8').split('\n').filter((line) => line.length > 0);
const say = (...words) => process.stdout.write(words.join(' ') + '\n');
let open = 'nothing';
setTimeout(() => {
  say('late:', open);
  process.exit(1);
}, 50000);

// The text in the pieces that one message takes: GSM 03.38 or UCS-2, never with a surrogate pair cut.
function pieces(text) {
  const gsm = /^[\x20-\x23\x25-\x3f\x41-\x5a\x61-\x7aäöüÄÖÜßéè\n]*$/.test(text);
  const [single, part] = gsm ? [160, 153] : [70, 67];
  if (text.length <= single) return { gsm, parts: [text] };
  const parts = [''];
  for (const c of text) {
    if (parts[parts.length - 1].length + c.length > part) parts.push('');
    parts[parts.length - 1] += c;
  }
  return { gsm, parts };
}

let reference = 0;

// One text as the PDUs that carry it.
function pdus(text, from, to) {
  const { gsm, parts } = pieces(text);
  reference += 1;
  return parts.map((message, i) => {
    const udh = Buffer.from([5, 0, 3, reference, parts.length, i + 1]);
    return {
      source_addr_ton: 1, source_addr_npi: 1, source_addr: from,
      dest_addr_ton: 1, dest_addr_npi: 1, destination_addr: to,
      data_coding: gsm ? 0 : 8, registered_delivery: 1,
      short_message: parts.length > 1 ? { udh, message } : { message },
    };
  });
}

const joined = {};

// The whole text when this was its last part.
function join(pdu) {
  const { udh, message } = pdu.short_message;
  const header = (udh || []).find((ie) => ie[0] === 0);
  if (!header) return message;
  const [, , ref, total, number] = header;
  const parts = (joined[ref] = joined[ref] || {});
  parts[number] = message;
  if (Object.keys(parts).length < total) return null;
  delete joined[ref];
  return Array.from({ length: total }, (_, i) => parts[i + 1]).join('');
}

function customer() {
  const ids = new Set();
  const receipts = new Set();
  let sent = 0;
  let refused = 0;
  const bind = (system_id, then) => {
    const session = smpp.connect({ url: 'smpp://127.0.0.1:' + port }, () => {
      session.bind_transceiver({ system_id, password: 'secret' }, (answer) => {
        if (answer.command_status !== 0) return say('no bind', answer.command_status);
        then(session);
      });
    });
    session.on('error', (e) => say('error', e));
    return session;
  };
  const done = () => {
    open = `${sent} sent, ${ids.size} accepted, ${refused} refused, ${receipts.size} receipts`;
    if (ids.size + refused < sent || receipts.size < ids.size) return;
    const matched = [...receipts].filter((id) => ids.has(id)).length;
    say('sent', sent, 'accepted', ids.size, 'matched', matched);
    process.exit(0);
  };
  bind('inbox', (inbox) => {
    inbox.on('deliver_sm', (pdu) => {
      inbox.send(pdu.response());
      const text = join(pdu);
      if (text !== null) say('received', text);
    });
    bind('shop', (shop) => {
      say('bound');
      shop.on('deliver_sm', (pdu) => {
        shop.send(pdu.response());
        if ((pdu.esm_class & 0x3c) === 4) {
          const said = /stat:(\w+)/.exec(pdu.short_message.message.toString());
          if (said && said[1] === 'DELIVRD' && pdu.message_state === 2) receipts.add(pdu.receipted_message_id);
          done();
        }
      });
      for (const pdu of texts.flatMap((text) => pdus(text, '4917', '4930'))) {
        sent += 1;
        shop.submit_sm(pdu, (answer) => {
          if (answer.command_status === 0) ids.add(answer.message_id);
          else refused += 1;
          done();
        });
      }
    });
  });
}

function centre() {
  let count = 0;
  const server = smpp.createServer((session) => {
    session.on('error', (e) => say('error', e));
    session.on('bind_transceiver', (pdu) => {
      session.send(pdu.response({ system_id: 'node' }));
      say('bound', pdu.system_id, pdu.password);
      let left = texts.flatMap((text) => pdus(text, '4917', '4930'));
      const next = () => {
        if (left.length === 0) return say('delivered');
        session.deliver_sm(left[0], (answer) => {
          if (answer.command_status !== 0) return say('refused', answer.command_status);
          left = left.slice(1);
          next();
        });
      };
      next();
    });
    session.on('enquire_link', (pdu) => session.send(pdu.response()));
    session.on('submit_sm', (pdu) => {
      count += 1;
      const id = 'node-' + count;
      const receipt = () =>
        session.deliver_sm({
          source_addr: pdu.destination_addr, destination_addr: pdu.source_addr, esm_class: 4,
          receipted_message_id: id, message_state: 2,
          short_message: {
            message: `id:${id} sub:001 dlvrd:001 submit date:2601010000 done date:2601010000 stat:DELIVRD err:000 text:`,
          },
        });
      // Every second receipt is faster than the answer.
      if (count % 2 === 0) receipt();
      session.send(pdu.response({ message_id: id }));
      if (count % 2 === 1) receipt();
      const text = join(pdu);
      if (text !== null) say('received', text);
    });
    session.on('unbind', (pdu) => {
      session.send(pdu.response());
      session.close();
    });
  });
  server.listen(port, '127.0.0.1');
}

(mode === 'centre' ? centre : customer)();
