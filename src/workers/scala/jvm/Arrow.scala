package nb.arrow

import java.io.IOException
import java.nio.channels.FileChannel
import java.nio.charset.StandardCharsets.UTF_8
import java.nio.{ByteBuffer, ByteOrder}

/** So many values, made when they are looked at. */
private[nb] final class Seen[T](val length: Int, at: Int => T) extends IndexedSeq[T] {
  def apply(i: Int): T =
    if (i < 0 || i >= length) throw new IndexOutOfBoundsException(s"$i is not below $length")
    else at(i)
  override def toString: String = {
    val first = iterator.take(20).mkString(", ")
    if (length > 20) s"Seq($first, … of $length)" else s"Seq($first)"
  }
}

/** A column of a table, and how the type of its values is called. */
private[nb] final case class Column(name: String, kind: String, values: IndexedSeq[Any])

/** A file of Arrow's IPC format (arrow.apache.org/docs/format/Columnar.html); what its types are says Kinds.scala. */
private[nb] final class Reader(file: FileChannel) {
  private val fileSize = file.size

  /** What is mapped just now, and where that begins. */
  private var mapped: (Long, ByteBuffer) = (0L, ByteBuffer.allocate(0))

  /** Its columns, and how long they are. */
  def table(): (IndexedSeq[Column], Int) = {
    val end = part(fileSize - 10, 10)
    val magic = new Array[Byte](6)
    end.position(4)
    end.get(magic)
    if (new String(magic, UTF_8) != "ARROW1") throw new IOException("this is no file of Arrow")
    val footerSize = end.getInt(0)
    val footer = Table.root(part(fileSize - 10 - footerSize, footerSize))
    val fields = footer.table(1).get.tables(1).map(Field(_))
    val dictionaries = footer.blocks(2).foldLeft(Map.empty[Long, IndexedSeq[Any]])((known, block) => known + dictionary(block, fields, known))
    val batches = footer.blocks(3).map { block =>
      val (batch, body) = message(block)
      val parts = new Parts(batch, body, dictionaries)
      (Math.toIntExact(batch.long(0)), fields.map(_.column(parts)))
    }
    val size = batches.map(_._1).sum
    val columns = fields.indices.map { at =>
      val chunks = batches.map { case (rows, columns) => new Seen(rows, columns(at)) }
      Column(fields(at).name, fields(at).kind, joined(chunks, size))
    }
    (columns, size)
  }

  /** Of several pieces one. */
  private def joined(chunks: IndexedSeq[IndexedSeq[Any]], size: Int): IndexedSeq[Any] =
    if (chunks.length == 1) chunks.head
    else {
      val starts = chunks.scanLeft(0)(_ + _.length).toArray
      new Seen(size, i => {
        val found = java.util.Arrays.binarySearch(starts, i)
        // Behind an empty piece begins another one at the same place.
        var at = if (found >= 0) found else -found - 2
        while (starts(at + 1) <= i) at += 1
        chunks(at)(i - starts(at))
      })
    }

  private def dictionary(block: Block, fields: IndexedSeq[Field], known: Map[Long, IndexedSeq[Any]]): (Long, IndexedSeq[Any]) = {
    val (batch, body) = message(block)
    val id = batch.long(0)
    val all = fields.flatMap(_.all).flatMap(_.dictionary)
    val words = all.find(_.id == id).getOrElse(throw new IOException("a dictionary is nobody's")).words
    val inner = batch.table(1).get
    id -> new Seen(Math.toIntExact(inner.long(0)), words.column(new Parts(inner, body, known)))
  }

  /** What a message says, and where its body begins. */
  private def message(block: Block): (Table, Long) = {
    val head = part(block.offset, block.headBytes)
    // A continuation mark comes before the size, but in files of long ago.
    val start = if (head.getInt(0) == -1) 8 else 4
    head.position(start)
    val message = Table.root(head.slice().order(ByteOrder.LITTLE_ENDIAN))
    (message.table(2).get, block.offset + block.headBytes)
  }

  /** The nodes and buffers of a batch, each once and in the order of its columns, those within a column behind it. */
  private final class Parts(batch: Table, body: Long, dictionaries: Map[Long, IndexedSeq[Any]]) extends Batch {
    if (batch.table(3).isDefined) throw new IOException("its buffers are compressed")
    private val nodes = batch.structs(1, 16).iterator
    private val buffers = batch.structs(2, 16).iterator

    def missing(): Long = nodes.next().getLong(8)
    def buffer(): ByteBuffer = {
      val place = buffers.next()
      part(body + place.getLong(0), place.getLong(8))
    }
    def words(id: Long): IndexedSeq[Any] = dictionaries.getOrElse(id, throw new IOException("a dictionary is missing"))
  }

  /** A part of the file. Mapped are large pieces, not each by itself: a process may have some ten thousands in all. */
  private def part(offset: Long, bytes: Long): ByteBuffer = {
    if (offset < 0 || bytes < 0 || offset > fileSize - bytes) throw new IOException("it ends too soon")
    if (bytes > Int.MaxValue) throw new IOException("a column of it is larger than 2 GB")
    val (start, piece) = mapped
    if (offset < start || offset + bytes > start + piece.capacity) {
      val size = math.min(math.max(bytes, Reader.MappedBytes), fileSize - offset)
      mapped = (offset, file.map(FileChannel.MapMode.READ_ONLY, offset, size))
    }
    val view = mapped._2.duplicate()
    view.position((offset - mapped._1).toInt)
    view.limit((offset - mapped._1 + bytes).toInt)
    view.slice().order(ByteOrder.LITTLE_ENDIAN)
  }
}

private object Reader {

  /** Of a file so much is mapped at once. */
  private val MappedBytes = 1L << 30
}
