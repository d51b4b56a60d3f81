"""An application made with smpplib: binds, sends texts in parts, prints what is delivered."""
import sys

import smpplib.client
import smpplib.consts
import smpplib.gsm

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
texts = [line.rstrip("\n") for line in sys.stdin]

client = smpplib.client.Client(host, port, allow_unknown_opt_params=True)
answers = []
receipts = []
parts = {}
whole = []


def sent(pdu):
    answers.append((pdu.status, pdu.message_id))


def received(pdu):
    body = pdu.short_message or b""
    if pdu.esm_class & 0x3C == 4:
        receipts.append(pdu.receipted_message_id)
        return 0
    reference, total, number = None, 1, 1
    if pdu.esm_class & 0x40:
        reference, total, number = body[3], body[4], body[5]
        body = body[6:]
    text = body.decode("utf-16-be") if pdu.data_coding == 8 else body.decode("latin-1")
    parts.setdefault(reference, {})[number] = text
    if len(parts[reference]) == total:
        got = parts.pop(reference)
        whole.append("".join(got[n] for n in sorted(got)))
        print("received", whole[-1], flush=True)
    return 0


client.set_message_sent_handler(sent)
client.set_message_received_handler(received)
client.connect()
client.bind_transceiver(system_id="smpp", password="test")
print("bound", flush=True)
expected = 0
for text in texts:
    pieces, coding, flag = smpplib.gsm.make_parts(text)
    for piece in pieces:
        client.send_message(
            source_addr_ton=smpplib.consts.SMPP_TON_INTL,
            source_addr_npi=smpplib.consts.SMPP_NPI_ISDN,
            source_addr="4917",
            dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
            dest_addr_npi=smpplib.consts.SMPP_NPI_ISDN,
            destination_addr="4930",
            short_message=piece,
            data_coding=coding,
            esm_class=flag,
            registered_delivery=True,
        )
        expected += 1
# What is refused gets no receipt.
while len(answers) < expected or len(whole) < count or len(receipts) < sum(status == 0 for status, _ in answers):
    client.read_once()
named = {message_id for status, message_id in answers if status == 0}
print("answers", len(named), expected, "receipts", len(named & set(receipts)), flush=True)
client.unbind()
client.disconnect()
